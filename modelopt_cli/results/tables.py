"""Tables as CSV that a spreadsheet can open safely, as JSON, and what their columns are called, so that each is one.

A column is read by its name, so no two of a table share one: a metric whose name is a column of the table's own (a
script may print `state`) goes by `metric.state`. A standard deviation goes by what deviates and `_std`.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from modelopt_cli.results.report import Cell, Table

DEVIATION = "_std"
"""What the column with the standard deviation of another one's values ends with."""

METRIC = "metric."
"""What the name of a metric's column begins with where its own would be another column's."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def metric_column(metric: str, own: Collection[str]) -> str:
    """The column of a metric in a table that has columns of its own: another name where it would be one of these."""
    return METRIC + metric if metric in own or metric.startswith(METRIC) else metric


def column_of(metric: str, columns: Collection[str]) -> str:
    """The one of a table's columns that holds a metric: the inverse of `metric_column`."""
    return METRIC + metric if METRIC + metric in columns else metric


def deviation_column(name: str, taken: Collection[str]) -> str:
    """The column of what `name` deviates by; over seeds where there is a deviation of that name already."""
    deviation = name + DEVIATION
    return f"{name}_seeds{DEVIATION}" if deviation in taken else deviation


def cell(value: Any) -> Cell:
    """Plain scalars as they are; lists and sections as compact JSON."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return json.dumps(value, separators=(", ", ": "))


def curve_table(points: Iterable[tuple[int, Mapping[str, float]]], step: str = "epoch") -> Table:
    """A row a report: the step and its metrics."""
    points = list(points)
    metrics = list(dict.fromkeys(name for _, values in points for name in values))
    return Table(
        columns=[step, *(metric_column(name, (step,)) for name in metrics)],
        rows=[[at, *(values.get(name) for name in metrics)] for at, values in points],
    )


def as_csv(table: Table) -> str:
    """RFC 4180 with LF. Text that a spreadsheet would run as a formula gets an apostrophe first; numbers stay."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([neutral(column) for column in table.columns])
    writer.writerows([[neutral(cell) for cell in row] for row in table.rows])
    return stream.getvalue()


def as_json(table: Table) -> str:
    """A list of records, from column to cell, each on a line of its own; what JSON cannot hold (NaN) is null."""
    rows = ([_finite(cell) for cell in row] for row in table.rows)
    lines = (json.dumps(dict(zip(table.columns, row, strict=True)), ensure_ascii=False) for row in rows)
    return "[\n" + ",\n".join(lines) + "\n]\n" if table.rows else "[]\n"


def _finite(cell: Cell) -> Cell:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def neutral(cell: Cell) -> Cell:
    """The cell as it may stand in a CSV file: None empty, booleans as true and false."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, str) and cell.startswith(_FORMULA):
        return "'" + cell
    return cell
