"""The strict YAML reader: the values of a text with the mark of each, and nothing that could surprise or do harm.

Scalars as in YAML 1.2 (core/scalars.py), environment variables (core/references.py), limits (events.py). Refused:
duplicate and non-text keys, merge keys, tags beyond the core ones, several documents, more than 1 MB.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

from modelopt_cli.core.errors import ExperimentError, RefusedError, UsageError, did_you_mean
from modelopt_cli.core.references import Reference, substitute, variables_in
from modelopt_cli.core.scalars import number_in, resolve
from modelopt_cli.experiment.document.document import Document
from modelopt_cli.experiment.document.events import Node, compose
from modelopt_cli.experiment.document.marks import Mark, Marks, Path, Source, fail

BYTES = 1_000_000
_CORE = "tag:yaml.org,2002:"


def load_file(path: FilePath) -> Document:
    """The document in a file, a mapping at its top. Raises ExperimentError (RefusedError for a tag that runs code)."""
    source = Source(str(path), _read(path))
    document = replace(parse(source), folder=path.absolute().parent)
    top = Mark(source)
    if document.values is None:
        fail(top, "the file is empty", "an experiment starts with 'version: 1' (see: modelopt init)")
    if not isinstance(document.values, dict):
        fail(top, "the file holds no sections at its top", "an experiment is a mapping: 'version: 1', 'data: ...', ...")
    return document


def parse(source: Source) -> Document:
    """The document in a text; values None when it is empty."""
    reader = _Reader(Marks(Mark(source)))
    root = compose(source)
    return Document(None if root is None else reader.value(root, ()), reader.marks, reader.references)


def _read(path: FilePath) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file.{_near(path)}") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder; name an experiment file in it{_inside(path)}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path} cannot be read: {reason}") from None
    if len(data) > BYTES:
        raise ExperimentError(f"{path} is larger than {BYTES:,} bytes, so it is no experiment file; is it data?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        rule = f"byte 0x{data[error.start]:02x} is not UTF-8 text"
        raise ExperimentError(f"{path}:{line}: {rule}; save the file as UTF-8, if it is an experiment") from None


def _near(path: FilePath) -> str:
    try:
        names = [item.name for item in path.parent.iterdir() if item.suffix in (".yaml", ".yml")]
    except OSError:
        return f" There is no folder {path.parent} either" if not path.parent.exists() else ""
    return did_you_mean(path.name, names)


def _inside(path: FilePath) -> str:
    names = sorted(item.name for item in path.iterdir() if item.suffix in (".yaml", ".yml"))[:5]
    return f": {', '.join(names)}" if names else ""


class _Reader:
    """Turns nodes into values and notes their marks. Recursion is bounded by the depth that `compose` allows."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.references: dict[Path, Reference] = {}

    def value(self, node: Node, path: Path) -> Any:
        self.marks.values[path] = node.mark
        kind = self._tag(node)
        if node.kind == "scalar":
            scalar = _scalar(node, kind)
            if "${" in node.text:
                self.references[path] = Reference(node.text, scalar, variables_in(node.text), node.plain)
            return scalar
        if node.kind == "list":
            return [self.value(item, (*path, index)) for index, item in enumerate(node.items)]
        return self._mapping(node, path)

    def _tag(self, node: Node) -> str | None:
        """The core type that an explicit tag asks for ('!' asks for text); None without a tag."""
        if node.tag is None:
            return None
        kind = "str" if node.tag == "!" else node.tag.removeprefix(_CORE)
        shown = f"!!{kind}" if node.tag.startswith(_CORE) else node.tag
        if kind.startswith("python/"):
            rule = f"the tag {shown} would run code when the file is read"
            fail(
                node.mark,
                rule,
                "an experiment holds plain values only; name code with 'target: module:name'",
                RefusedError,
            )
        allowed = {"scalar": ("str", "int", "float", "bool", "null"), "list": ("seq",), "mapping": ("map",)}[node.kind]
        if node.tag != "!" and (kind not in allowed or not node.tag.startswith(_CORE)):
            fail(node.mark, f"the tag {shown} is not allowed here", "write the value without a tag")
        return kind

    def _mapping(self, node: Node, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        first: dict[str, Mark] = {}
        for key_node, value_node in zip(node.items[::2], node.items[1::2], strict=True):
            key = self._key(key_node)
            if key in first:
                line = (first[key].line or 0) + 1
                fail(key_node.mark, f"the key '{key}' stands twice (first in line {line})", "remove one of the two")
            first[key] = key_node.mark
            self.marks.keys[(*path, key)] = key_node.mark
            values[key] = self.value(value_node, (*path, key))
        return values

    def _key(self, node: Node) -> str:
        if node.kind != "scalar":
            remedy = "write plain text before the colon"
            if node.kind == "mapping":
                remedy += '; if this is a reference to an environment variable, quote it: "${NAME}"'
            fail(node.mark, f"a {node.kind} cannot be a key", remedy)
        if node.plain and node.text == "<<":
            rule = "merge keys (<<) are not part of YAML 1.2"
            fail(node.mark, rule, "write the keys out, or repeat a whole section with an alias: key: *name")
        key = _scalar(node, self._tag(node))
        if not isinstance(key, str):
            remedy = f"quote it: '{node.text}'" if node.text else "write a key before the colon"
            fail(node.mark, f"the key {node.text or 'null'} is no text", remedy)
        return key


def _scalar(node: Node, kind: str | None) -> Any:
    try:
        text = substitute(node.text)
    except ValueError as error:
        fail(node.mark, str(error))
    if kind is None:
        return resolve(text) if node.plain else text
    if kind == "str":
        return text
    value = resolve(text)
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    fits = {"int": int, "float": float, "bool": bool, "null": type(None)}[kind]
    if type(value) is not fits:
        hint = f"; write {number_in(text)}" if kind == "float" and number_in(text) else ""
        fail(node.mark, f"'{text}' is no !!{kind}", f"remove the tag or correct the value{hint}")
    return value
