"""What several kinds of reports show alike: titled tables, costs, gates, warnings, and where files lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.core.readable import cell, count, size
from modelopt_cli.results.report import GateResult, Report
from modelopt_cli.results.tables import DEVIATION


def titled(title: str, *, pad_edge: bool = False, **options: Any) -> Table:
    """An empty table below a bold title; `options` are rich's."""
    look: dict[str, Any] = {"title_justify": "left", "title_style": "bold", "box": box.SIMPLE_HEAD}
    return Table(title=title, pad_edge=pad_edge, **look, **options)


def cells(console: Console, title: str, headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table of whatever values; the first column, which names the rows, is given up to half the width."""
    table = titled(title)
    first = max((len(cell(row[0])) for row in rows), default=0)
    for at, header in enumerate(headers):
        table.add_column(Text(header), overflow="fold", min_width=min(first, console.width // 2) if at == 0 else None)
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    console.print(table)


def line(console: Console, label: str, text: str, style: str = "dim") -> None:
    """A line that begins with a dim label. Only the terminal breaks it."""
    console.print(Text.assemble((label, style), text), soft_wrap=True)


def costs(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """What a model costs beside another one: a row for parameters, operations, bytes and milliseconds each."""
    table = titled("costs", pad_edge=False)
    columns = [name for name in rows[0] if name != "what" and not name.endswith(("±", DEVIATION))]
    table.add_column("of the model")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row["what"], *(_cost(row, name) for name in columns))
    console.print(table)


def _cost(row: Mapping[str, Any], column: str) -> str:
    if row[column] is None:
        return "–"
    if column == "times less":
        return f"{row[column]:.2f}"
    return size(row[column]) if row["what"].startswith("bytes") else count(row[column])


def positive(console: Console, name: str | None) -> None:
    """Which class the metrics of two classes are about, where they are."""
    if name is not None:
        line(console, "positive class ", str(name))


def gates(console: Console, results: Sequence[GateResult]) -> None:
    """A line a gate: met or not, by how much."""
    good, bad = ("✓", "✗") if console.encoding.lower().startswith("utf") else ("ok", "NOT MET")
    for gate in results:
        mark = Text(good, style="green") if gate.met else Text(bad, style="bold red")
        lacking = gate.reason or "no such metric"
        value = lacking if gate.value is None else f"value {gate.value:.6g}, margin {gate.margin:+.6g}"
        console.print(Text.assemble("gate ", mark, f" {gate.condition}  ({value})"), soft_wrap=True)


def warnings(console: Console, report: Report, label: str = "warning: ", style: str = "yellow") -> None:
    """A line a warning."""
    for text in report.warnings:
        line(console, label, text, style)


def files(console: Console, report: Report, labels: Mapping[str, str]) -> None:
    """A line for each file of `labels` (what it is in the report -> what people call it) that was written."""
    for key, label in labels.items():
        if key in report.artefacts:
            line(console, f"{label:<13}", report.artefacts[key])
