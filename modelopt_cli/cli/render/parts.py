"""What several kinds of reports show alike: titled tables, costs, gates, warnings, what a report ends with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render.console import BAD, GOOD, WARNING, hanging
from modelopt_cli.core.readable import aligned, cell, count, figure, size
from modelopt_cli.results.report import GateResult, Report
from modelopt_cli.results.tables import DEVIATION

_LABEL = 13  # letters of a label at the beginning of a line


def titled(title: str, *, pad_edge: bool = False, **options: Any) -> Table:
    """An empty table below a bold title; `options` are rich's."""
    return _Titled(title=title, pad_edge=pad_edge, box=box.SIMPLE_HEAD, **options)


class _Titled(Table):
    """A table whose title is broken by the console's width, not by that of a narrow table."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        title, self.title = self.title, None
        yield Text(str(title), style="bold")
        yield from super().__rich_console__(console, options)
        self.title = title


def fits(console: Console, table: Table) -> bool:
    """Whether the table is not wider than the console, with every cell in one line."""
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum <= console.width


def fitting(console: Console, columns: Sequence[str], table: Callable[[Sequence[str]], Table], first: int = 1) -> Table:
    """The table of as many of the columns as the console is wide, the first of them at least; the last go first."""
    shown = list(columns)
    while not fits(console, made := table(shown)) and len(shown) > first:
        shown.pop()
    return made


def cells(console: Console, title: str, headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table of whatever values; a column that holds nothing is left out, numbers stand below each other.

    The first column, which names the rows, is given up to half the width.
    """
    kept = [at for at in range(len(headers)) if at == 0 or any(row[at] is not None for row in rows)]
    table = titled(title)
    for at in kept:
        first = max((len(cell(row[at])) for row in rows), default=0)
        least = min(first, console.width // 2) if at == 0 else None
        table.add_column(Text(headers[at]), overflow="fold", min_width=least)
    columns = [[cell(row[at]) for row in rows] for at in kept]
    for row in zip(*columns, strict=True):
        table.add_row(*(Text(value) for value in row))
    console.print(table)


def figures(table: Table, header: str, values: Sequence[str], justify: JustifyMethod = "right") -> list[Text]:
    """Add a column of numbers to the table; its cells, with their decimal points below each other."""
    lines = header.split("\n")
    table.add_column(Text(header, justify=justify), no_wrap=True)
    return [Text(text) for text in aligned(values, max(map(len, lines)))]


def named(
    console: Console, table: Table, names: Sequence[str], rows: Sequence[Sequence[str]], *, total: bool = False
) -> None:
    """Fill a table whose first column is `names`, dotted paths: long ones go on below, broken at their dots.

    The table has its columns already; the others keep their width. `total`: the last row stands apart. Prints it.
    """
    others = Table(box=table.box, pad_edge=table.pad_edge, padding=table.padding)
    for column in table.columns[1:]:
        others.add_column(column.header, no_wrap=True)
    for row in rows:
        others.add_row(*row)
    taken = Measurement.get(console, console.options.update(max_width=10_000), others).maximum
    room = max(20, console.width - taken - 4)
    for number, (name, row) in enumerate(zip(names, rows, strict=True), start=1):
        if total and number == len(rows):
            table.add_section()
        table.add_row(Text(broken(name, room)), *row)
    console.print(table)


def broken(path: str, most: int) -> str:
    """A dotted path of more than `most` letters on several lines, each ending with a dot.

    >>> broken("encoder.layers.0.fc1", 12)
    'encoder.\\n  layers.0.\\n  fc1'
    """
    if len(path) <= most:
        return path
    lines = [""]
    for part in path.split("."):
        if len(lines[-1]) + len(part) >= most and lines[-1].strip():
            lines.append("  ")
        lines[-1] += f"{part}."
    return "\n".join(lines)[:-1]


def line(console: Console, label: str, text: str | Text, style: str = "dim") -> None:
    """A line that begins with a dim label; on a terminal what is longer goes on below the text."""
    hanging(console, label, text, style)


def entry(console: Console, label: str, text: str | Text, style: str = "dim") -> None:
    """A line whose label is as wide as those of the other lines that a report ends with."""
    hanging(console, f"{label:<{_LABEL}}", text, style)


def costs(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """What a model costs beside another one: a row for parameters, operations, bytes and milliseconds each."""
    columns = [name for name in rows[0] if name != "what" and not name.endswith(("±", DEVIATION))]
    table = titled("costs", pad_edge=False)
    table.add_column("of the model", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row["what"], *(_cost(row, name) for name in columns))
    console.print(table)


def latency(console: Console, report: Report) -> None:
    """How latency was measured, where it was."""
    if "latency" in report.details:
        line(console, "latency: ", str(report.details["latency"]))


def _cost(row: Mapping[str, Any], column: str) -> str:
    if row[column] is None:
        return "–"
    if column == "times less":
        return f"{row[column]:.2f}"
    if row["what"].startswith("bytes"):
        return size(row[column])
    return f"{row[column]:.3g}" if row["what"].startswith("ms") and row[column] < 100 else count(row[column])


def positive(console: Console, name: str | None) -> None:
    """Which class the metrics of two classes are about, where they are."""
    if name is not None:
        line(console, "positive class ", str(name))


def result(console: Console, *sentences: str | Text, label: str = "result") -> None:
    """What came of it, first; below it what it is compared with. Nothing where there is nothing to say."""
    said = [each for each in sentences if each]
    if said:
        console.print()
    for number, sentence in enumerate(said):
        text = Text(sentence, style="" if number else "bold") if isinstance(sentence, str) else sentence
        entry(console, "" if number else label, text, f"bold {GOOD}")


def gates(console: Console, results: Sequence[GateResult]) -> None:
    """A line a gate: met or not, by how much."""
    good, bad = ("✓ met", "✗ not met") if console.encoding.lower().startswith("utf") else ("met", "NOT MET")
    for gate in results:
        mark = Text(good, style=GOOD) if gate.met else Text(bad, style=BAD)
        lacking = gate.reason or "no such metric"
        value = lacking if gate.value is None else f"value {gate.value:.6g}, margin {gate.margin:+.6g}"
        entry(console, "gate", Text.assemble(mark, f"  {gate.condition}", (f"  ({value})", "dim")))


def warnings(console: Console, report: Report, label: str = "warning: ", style: str = WARNING) -> None:
    """A line a warning."""
    for text in report.warnings:
        line(console, label, text, style)


def files(console: Console, report: Report, labels: Mapping[str, str], hints: Mapping[str, str] | None = None) -> None:
    """Where the report lies, then a line for each file of `labels` (what it is in the report -> what people call it)
    that was written, and the folder that holds everything; `hints`: what to do with one.
    """
    artefacts = report.artefacts
    page = "page" if "page" in artefacts else "report"
    shown = {page: "report", **labels, "directory": "run"}
    for key, label in shown.items():
        if key in artefacts:
            hint = (hints or {}).get(key, "")
            if key == "directory":
                hint = _beside(artefacts)
            entry(console, label, Text.assemble(nearby(artefacts[key]), (f"  ({hint})" if hint else "", "dim")))


def _beside(artefacts: Mapping[str, str]) -> str:
    """What else there is in a run's folder."""
    others = ("tables", "report") if "page" in artefacts else ("tables",)
    names = [Path(artefacts[key]).name for key in others if key in artefacts]
    return f"{', '.join(names)} and more" if names else ""


def nearby(path: str) -> str:
    """A path as people type it: relative, where it lies below the current folder."""
    try:
        below = os.path.relpath(path)
    except (OSError, ValueError):  # the current folder is gone, or on another drive
        return path
    return path if below.startswith(os.pardir) or not Path(path).is_absolute() else below


def shares(value: float, deviation: float | None) -> str:
    """A metric's value, with its deviation where there is one."""
    return figure(value) if deviation is None else f"{figure(value)} ± {figure(deviation)}"
