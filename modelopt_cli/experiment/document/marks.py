"""Where the keys and values of a file stand, and how a mistake is shown there: file:line:column, the line, a caret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NoReturn

from modelopt_cli.core.errors import ExperimentError, ModeloptError
from modelopt_cli.core.text import LONGEST_LINE, cut, one_line

Path = tuple[str | int, ...]
"""Keys and list indices from the top of a document to a value in it."""

MOST = 10  # problems shown at once
_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")  # what YAML 1.1, and so libyaml, counts as the end of a line
_WIDTH = 110  # characters of a line that are shown
_LONGEST = 600  # characters of a message, which may hold a value of any length


@dataclass(frozen=True)
class Source:
    """What a text is called in errors (a file's path, or `--set a=1`), and the text itself.

    `inline`: a text of one line, in which line and column tell nothing.
    """

    name: str
    text: str = field(default="", repr=False)
    inline: bool = False

    @cached_property
    def lines(self) -> list[str]:
        """The lines, as YAML counts them."""
        return _BREAK.split(self.text)


@dataclass(frozen=True)
class Mark:
    """A stretch of one line of a source. Without `line` (from 0): what has no lines, e.g. a mapping from Python."""

    source: Source
    line: int | None = None
    column: int = 0
    end: int = 0

    def __str__(self) -> str:
        if self.line is None or self.source.inline:
            return self.source.name
        return f"{self.source.name}:{self.line + 1}:{self.column + 1}"

    @property
    def order(self) -> tuple[bool, int, int]:
        """What marks of one file are sorted by: their lines; those without a line come last."""
        return self.line is None, self.line or 0, self.column

    def excerpt(self) -> str:
        """The line with a caret under the stretch; empty where there is no line."""
        if self.line is None or self.line >= len(self.source.lines):
            return ""
        text = "".join(char if char.isprintable() else " " for char in self.source.lines[self.line])
        start = max(0, self.column - _WIDTH // 2) if len(text) > _WIDTH else 0
        shown = text[start : start + _WIDTH].rstrip()
        width = max(1, min(self.end, len(text), start + _WIDTH) - self.column)
        number = f"{self.line + 1:>5}"
        return f"{number} | {shown}\n{' ' * len(number)} | {' ' * (self.column - start)}{'^' * width}"


@dataclass(frozen=True)
class Problem:
    """One mistake: where, what rule it breaks, and what to do."""

    mark: Mark
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        message, remedy = one_line(self.message, _LONGEST), cut(self.remedy, LONGEST_LINE)
        return "\n".join(part for part in (f"{self.mark}: {message}", self.mark.excerpt(), remedy) if part)


@dataclass(frozen=True)
class Finding:
    """A mistake at a path of a document (which knows its mark); `at_key`: the key itself is wrong."""

    path: Path
    message: str
    remedy: str = ""
    at_key: bool = False


@dataclass
class Marks:
    """The marks of a document's keys and values, by path."""

    whole: Mark
    keys: dict[Path, Mark] = field(default_factory=dict)
    values: dict[Path, Mark] = field(default_factory=dict)

    def value(self, path: Path) -> Mark:
        """The mark of the value at `path`, or of the nearest section around it."""
        return self._nearest(path, self.values, self.keys)

    def key(self, path: Path) -> Mark:
        """The mark of the key at `path` (of the value, in a list), or of the nearest section around it."""
        return self._nearest(path, self.keys, self.values)

    def _nearest(self, path: Path, first: dict[Path, Mark], second: dict[Path, Mark]) -> Mark:
        if path in first:
            return first[path]
        inside = [mark for other, mark in self.values.items() if other[: len(path)] == path]
        if inside and path not in second:
            return inside[0]  # the section was made by an override that goes into it
        for end in range(len(path), 0, -1):
            mark = self.keys.get(path[:end]) or second.get(path[:end]) or first.get(path[:end])
            if mark is not None:
                return mark
        return self.whole

    def replaced(self, path: Path, mark: Mark) -> Marks:
        """The same where what stands at `path`, and all below it, comes from `mark`."""
        keys, values = (
            {**{other: each for other, each in marks.items() if other[: len(path)] != path}, path: mark}
            for marks in (self.keys, self.values)
        )
        return Marks(self.whole, keys, values)


def fail(mark: Mark, message: str, remedy: str = "", kind: type[ModeloptError] = ExperimentError) -> NoReturn:
    """Raise one problem as an error."""
    raise kind(str(Problem(mark, message, remedy)))


class Rejected(Exception):  # noqa: N818
    """Values that the experiment cannot take."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(finding.message for finding in findings))
        self.findings = findings


def fail_all(problems: Iterable[Problem]) -> NoReturn:
    """Raise all problems as one ExperimentError, in the order of their lines, at most MOST of them."""
    ordered = sorted(dict.fromkeys(problems), key=lambda problem: problem.mark.order)
    more = len(ordered) - MOST
    rest = [f"... and {more} more problem{'s' if more > 1 else ''}"] if more > 0 else []
    raise ExperimentError("\n".join([*map(str, ordered[:MOST]), *rest]))
