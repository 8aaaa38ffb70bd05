"""The document: the plain values of an experiment file, where each of them stands, and dotted paths into them.

A path is written `training.optimizer.lr` or `model.hidden.0`. In a mapping with free keys (tuning.space,
command.parameters) the rest of a path is one key, unless the mapping already holds a part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel

from modelopt_cli.core.references import Reference
from modelopt_cli.core.strategy import Strategy
from modelopt_cli.experiment.document.layout import FREE, Slot, default, keys, slot_in
from modelopt_cli.experiment.document.marks import Finding, Mark, Marks, Path, Problem, Source, fail_all


class PathError(ValueError):
    """A path that names nothing in the file's schema; the message says where it ends."""

    path = ""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, eq=False)
class Document:
    """Plain values (dict, list, str, int, float, bool, None), where they stand, and which came from the environment.

    `layout`: what may stand where. `folder`: what relative paths count from.
    """

    values: Any
    marks: Marks
    references: Mapping[Path, Reference] = field(default_factory=dict)
    layout: Slot = FREE
    folder: FilePath = FilePath()

    @property
    def origin(self) -> str:
        """What the document is called in messages: the file's path, or 'experiment' for a mapping."""
        return self.marks.whole.source.name

    # Reading

    def paths(self) -> Iterator[str]:
        """Every path that names something, defaults and absent sections included."""
        return _paths(self.values, self.layout, ())

    def nearest(self, path: str) -> str:
        """The existing path that looks most like `path`, or an empty text."""
        known = list(self.paths())
        near = get_close_matches(path, known, n=1, cutoff=0.6)
        if near:
            return near[0]
        last = path.rpartition(".")[2]
        same = [other for other in known if other.rpartition(".")[2] == last]
        return same[0] if same else ""

    def section_at(self, path: Path) -> type[BaseModel] | None:
        """The class of the section at `path`, as far as the values say it."""
        slot: Slot | None = self.layout
        current = self.values
        for part in path:
            if slot is None:
                return None
            section = slot.section(current)
            slot = slot.items if section is None else slot_in(section, str(part))
            try:
                current = current[part]
            except (KeyError, IndexError, TypeError):
                current = None
        return slot.section(current) if slot is not None else None

    # Changing

    def put(self, path: str, value: Any) -> Document:
        """The document with `value` at `path`; what is not on the path is shared. Marks and references stay.

        Missing sections are created: from the default of their field, so that `training.optimizer.lr` goes into the
        default optimizer, and `model.hidden.0` into the default list. A shorthand `cosine` becomes {type: cosine}.
        Raises PathError.
        """
        return replace(self, values=_put(self.values, _parts(path), value, self.layout, ())[0])

    def override(self, path: str, value: Any, mark: Mark, references: Mapping[Path, Reference]) -> Document:
        """`put`, where all that stands at `path` comes from `mark` now. `references`: by their paths in `value`."""
        values, full = _put(self.values, _parts(path), value, self.layout, ())
        elsewhere = {other: each for other, each in self.references.items() if other[: len(full)] != full}
        inside = {(*full, *below): each for below, each in references.items()}
        return replace(self, values=values, marks=self.marks.replaced(full, mark), references=elsewhere | inside)

    def unmarked(self) -> Document:
        """The same without marks (and without the text that these show): as made by a program, not by a file."""
        return self.changed({})

    def changed(self, values: Mapping[str, Any]) -> Document:
        """Unmarked, with plain values at these paths, put there from the shortest path to the longest.

        Raises PathError, whose `path` is the one that names nothing.
        """
        whole = self.values
        for path in sorted(values, key=lambda path: path.count(".")):
            try:
                whole = _put(whole, _parts(path), values[path], self.layout, ())[0]
            except PathError as error:
                error.path = path
                raise
        marks = Marks(Mark(Source(self.origin)))
        return Document(whole, marks, self.references, self.layout, self.folder)

    # Mistakes

    def problem(self, finding: Finding) -> Problem:
        """The finding, at its place in the text."""
        mark = self.marks.key(finding.path) if finding.at_key else self.marks.value(finding.path)
        return Problem(mark, finding.message, finding.remedy)

    def refuse(self, findings: Iterable[Finding]) -> None:
        """Raise ExperimentError with all findings, each at its place in the text; nothing for none."""
        problems = [self.problem(finding) for finding in findings]
        if problems:
            fail_all(problems)


def text(path: Path) -> str:
    """The dotted form."""
    return ".".join(map(str, path))


def section_name(section: type[BaseModel]) -> str:
    """The YAML name of a strategy's class, else an empty text."""
    return section.name() if issubclass(section, Strategy) else ""


def value_at(values: Any, path: str) -> Any:
    """The value at a dotted path in plain nested values. Raises KeyError."""
    parts = path.split(".")
    while parts:
        if isinstance(values, Mapping):
            key, parts = _free_key(values, parts)
            if key not in values:
                raise KeyError(path)
            values = values[key]
        elif isinstance(values, list) and parts[0].isascii() and parts[0].isdigit() and int(parts[0]) < len(values):
            values, parts = values[int(parts[0])], parts[1:]
        else:
            raise KeyError(path)
    return values


def _parts(path: str) -> list[str]:
    parts = path.split(".")
    if not all(parts):
        raise PathError(f"'{path}' is no path; write names joined by dots, e.g. training.optimizer.lr")
    return parts


def _put(current: Any, parts: list[str], value: Any, slot: Slot, done: Path) -> tuple[Any, Path]:
    """(`current` with the value there, the path as keys and indices); `done`: the part of the path above."""
    if not parts:
        return value, done
    current = _container(current, slot, done)
    if isinstance(current, list):
        index = _index(current, parts[0], done)
        inner, full = _put(current[index], parts[1:], value, slot.items or FREE, (*done, index))
        return [*current[:index], inner, *current[index + 1 :]], full
    section = slot.section(current)
    if section is None:
        key, rest, below = *_free_key(current, parts), FREE
    else:
        key, rest, below = parts[0], parts[1:], _slot_of(section, parts[0], done)
    child = current[key] if key in current else default(section, key) if section is not None else None
    inner, full = _put(child, rest, value, below, (*done, key))
    return {**current, key: inner}, full


def _container(current: Any, slot: Slot, done: Path) -> Any:
    """`current` as something that a path can go into."""
    if isinstance(current, Mapping | list):
        return current
    if isinstance(current, str) and slot.families:
        return {"type": current}
    if current is None and (slot.sections or slot.families or slot.free):
        return {}
    shown = "not set (null)" if current is None else f"the value {current!r}"
    raise PathError(f"{text(done)} is {shown}, so nothing lies below it")


def _index(current: list[Any], part: str, done: Path) -> int:
    count = len(current)
    if part.isascii() and part.isdigit() and int(part) < count:
        return int(part)
    held = f"has {count} item{'s' if count != 1 else ''}" + (f" (0 to {count - 1})" if count else "")
    raise PathError(f"{text(done)} {held}, so there is no '{part}' in it")


def _free_key(current: Mapping[str, Any], parts: list[str]) -> tuple[str, list[str]]:
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in current:
            return ".".join(parts[:end]), parts[end:]
    return ".".join(parts), []


def _slot_of(section: type[BaseModel], key: str, done: Path) -> Slot:
    slot = slot_in(section, key)
    if slot is None:
        inside = f"{text(done)} ({section_name(section)})" if done and section_name(section) else text(done)
        raise PathError(
            f"there is no '{key}' in {inside or 'an experiment'}", f"known keys: {', '.join(keys(section))}"
        )
    return slot


def _paths(current: Any, slot: Slot, done: Path) -> Iterator[str]:
    if done:
        yield text(done)
    if isinstance(current, list):
        for index, item in enumerate(current):
            yield from _paths(item, slot.items or FREE, (*done, index))
        return
    section = slot.section(current)
    written = current if isinstance(current, Mapping) else {}
    known = keys(section) if section is not None else []
    for key in dict.fromkeys([*known, *written]):
        below = slot_in(section, key) if section is not None else FREE
        if below is not None:
            inner = written[key] if key in written else default(section, key) if section is not None else None
            yield from _paths(inner, below, (*done, key))
