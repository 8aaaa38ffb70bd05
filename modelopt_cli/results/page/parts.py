"""What a page is made of, as the template reads it: sections of charts, tables and folded texts; tiles with a
figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelopt_cli.core.readable import cell as as_text
from modelopt_cli.core.readable import count
from modelopt_cli.results.charts.chart import Chart


@dataclass(frozen=True)
class Tile:
    """A figure that is seen first, what it is, and a word beside it."""

    label: str
    value: str
    beside: str = ""


@dataclass(frozen=True)
class PageCell:
    """A table's cell: its text, the number that it is sorted by, a link to a heading of the page."""

    text: str
    number: float | None = None
    href: str = ""


@dataclass(frozen=True)
class PageColumn:
    """A column's head."""

    text: str
    number: bool = False


@dataclass(frozen=True)
class PageRow:
    """A row; with `trial`, a click shows that trial."""

    cells: Sequence[PageCell]
    trial: int | None = None


@dataclass(frozen=True)
class PageTable:
    """A table, ready to be written."""

    columns: Sequence[PageColumn]
    rows: Sequence[PageRow]
    caption: str = ""
    note: str = ""

    @classmethod
    def of(
        cls,
        records: Sequence[Mapping[str, Any]],
        caption: str = "",
        *,
        columns: Sequence[str] | None = None,
        note: str = "",
        most: int = 500,
    ) -> PageTable | None:
        """A table's records; columns without a value are left out. None where there is nothing to show."""
        names = list(dict.fromkeys(key for row in records for key in row)) if columns is None else list(columns)
        names = [name for name in names if any(row.get(name) is not None for row in records)]
        if not records or not names:
            return None
        numeric = {name: all(_is_number(row.get(name)) or row.get(name) is None for row in records) for name in names}
        rows = [
            PageRow(
                [_cell(row.get(name)) for name in names], row["trial"] if isinstance(row.get("trial"), int) else None
            )
            for row in records[:most]
        ]
        if len(records) > most:
            note = f"The first {most} of {len(records)} rows; the files of the run hold them all. {note}".strip()
        return cls([PageColumn(name, numeric[name]) for name in names], rows, caption, note)


@dataclass(frozen=True)
class Part:
    """One thing in a section: a chart, a table (`folded` under its caption), the table of trials, or a text."""

    chart: Chart | None = None
    table: PageTable | None = None
    folded: bool = False
    trials: bool = False
    title: str = ""
    code: str = ""
    open: bool = False


@dataclass
class Section:
    """A heading and what stands below it."""

    id: str
    title: str
    parts: list[Part] = field(default_factory=list)
    text: str = ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any) -> PageCell:
    if value is None:
        return PageCell("–")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return PageCell(as_text(value))
    if value != value:
        return PageCell("not a number")
    text = count(value) if float(value).is_integer() and abs(value) >= 1000 else as_text(value)
    return PageCell(text, float(value))
