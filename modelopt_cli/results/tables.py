"""Tables as files: CSV that a spreadsheet can open safely, and JSON."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from modelopt_cli.results.report import Cell, Table

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(table: Table) -> str:
    """RFC 4180 with LF. Text that a spreadsheet would run as a formula gets an apostrophe first; numbers stay."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([neutral(column) for column in table.columns])
    writer.writerows([[neutral(cell) for cell in row] for row in table.rows])
    return stream.getvalue()


def neutral(cell: Cell) -> Cell:
    """The cell as it may stand in a CSV file: None empty, booleans as true and false."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, str) and cell.startswith(_FORMULA):
        return "'" + cell
    return cell


def as_rows(table: Table) -> list[dict[str, Any]]:
    """A mapping a row, for JSON; numbers that JSON cannot hold (NaN, infinity) become null."""
    return [dict(zip(table.columns, map(_finite, row), strict=True)) for row in table.rows]


def _finite(cell: Cell) -> Cell:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell
