"""From YAML text to a tree of nodes, within limits that hold while the text is read, before anything is expanded.

PyYAML's event stream (libyaml where there is one) is read without recursion; an alias counts with the whole size and
height of what it repeats, so that a few lines cannot stand for millions of nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from modelopt_cli.experiment.document.marks import Mark, Source, fail

DEPTH = 64
NODES = 100_000

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(eq=False, slots=True)
class Node:
    """A scalar, list or mapping as it is written. Aliases refer to the same node."""

    kind: str  # scalar | list | mapping
    mark: Mark
    tag: str | None = None
    text: str = ""  # of a scalar
    plain: bool = False  # a scalar without quotes
    items: list[Node] = field(default_factory=list)  # of a mapping: key, value, key, value ...
    size: int = 1  # nodes in it, aliases expanded
    height: int = 1
    closed: bool = True


def compose(source: Source) -> Node | None:
    """The tree of the one document in `source`; None when there is none.

    Raises ExperimentError: not YAML, several documents, a limit exceeded, an alias inside what it repeats.
    """
    builder = _Builder(source)
    for event in _events(source):
        builder.add(event)
    return builder.root


def _events(source: Source) -> Iterator[Any]:
    try:
        yield from yaml.parse(source.text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = _cause(source, error)
        text = ", ".join(part for part in (error.context, error.problem) if part)
        fail(mark, f"this is not YAML: {text}", _syntax_remedy(source, mark))
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        reason = getattr(error, "reason", "a character that YAML does not allow")
        fail(Mark(source), f"this is not YAML: {reason}", "remove control characters, or write them as \\x.. in quotes")


def _cause(source: Source, error: yaml.MarkedYAMLError) -> Mark:
    """Where the error is, or where what is incomplete began when the text simply ends."""
    mark = error.problem_mark
    ended = mark is None or not "".join([*source.lines[mark.line :]])[mark.column :].strip()
    return _mark(source, error.context_mark if ended and error.context_mark is not None else mark, None)


def _syntax_remedy(source: Source, mark: Mark) -> str:
    line = source.lines[mark.line] if mark.line is not None and mark.line < len(source.lines) else ""
    if "${" in line and ("{" in line.replace("${", "") or "[" in line):
        return 'inside [...] and {...} a reference needs quotes: "${NAME}"'
    if "\t" in line:
        return "indent with spaces; YAML allows no tabs there"
    return "check the indentation, quotes, brackets and colons here and in the lines before"


def _mark(source: Source, start: Any, end: Any) -> Mark:
    if start is None:
        return Mark(source)
    same_line = end is not None and end.line == start.line
    return Mark(source, start.line, start.column, end.column if same_line else start.column + 1)


class _Builder:
    """Puts events together; `stack` holds the open lists and mappings."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stack: list[Node] = []
        self._anchors: dict[str, Node] = {}
        self._total = 0
        self.root: Node | None = None

    def add(self, event: Any) -> None:
        mark = _mark(self._source, event.start_mark, event.end_mark)
        if isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            fail(mark, "a second document starts here, but an experiment is one", "remove '---' and what follows it")
        elif isinstance(event, yaml.ScalarEvent):
            plain = bool(event.implicit[0]) and event.style in (None, "")
            self._add_node(Node("scalar", mark, event.tag, event.value, plain), event.anchor)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._open(Node("list", mark, event.tag, closed=False), event.anchor)
        elif isinstance(event, yaml.MappingStartEvent):
            self._open(Node("mapping", mark, event.tag, closed=False), event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event.anchor, mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close()

    def _open(self, node: Node, anchor: str | None) -> None:
        self._add_node(node, anchor)
        self._stack.append(node)

    def _close(self) -> None:
        node = self._stack.pop()
        node.closed = True
        if self._stack:
            parent = self._stack[-1]
            parent.size += node.size - 1  # itself was counted when it was added
            parent.height = max(parent.height, node.height + 1)

    def _add_node(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        self._attach(node, node.mark)

    def _alias(self, anchor: str | None, mark: Mark) -> None:
        node = self._anchors.get(anchor or "")
        if node is None:
            fail(mark, f"*{anchor} repeats nothing: there is no &{anchor} before it", "name it first, or write it out")
        if not node.closed:
            fail(mark, f"*{anchor} stands inside &{anchor}, so it would contain itself without end", "write it out")
        self._attach(node, mark)

    def _attach(self, node: Node, mark: Mark) -> None:
        """Put `node` into the open list or mapping, and check the limits as if aliases were expanded."""
        self._total += node.size
        if self._total > NODES:
            rule = f"with its aliases expanded, the file holds more than {NODES:,} values"
            fail(mark, rule, "an experiment needs far fewer; move large data into a file of its own")
        if len(self._stack) + node.height > DEPTH:
            fail(mark, f"lists and sections are nested more than {DEPTH} deep", "an experiment needs far less")
        if not self._stack:
            self.root = node
            return
        parent = self._stack[-1]
        parent.items.append(node)
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
