"""Runs side by side: what they are, settings that differ, metrics with differences to the first, and what is sure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import parts
from modelopt_cli.cli.render.console import BAD, GOOD, NAME
from modelopt_cli.core.readable import cell, measure, signed
from modelopt_cli.results.details import ComparisonDetails
from modelopt_cli.results.report import Report
from modelopt_cli.results.tables import DEVIATION

_STYLES = {"better": GOOD, "worse": BAD, "differs": NAME, "unclear": "dim", "not known": "dim", "same": "dim"}
_WORDS = {"not known": "?", "missing": ""}
_RUN = ("run", "name", "workflow", "started", "status", "seeds", "trials")
_WIDEST = 40  # letters of a setting's value
_LONG = 24  # letters of a name that stays on one line, where space is short


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the main metrics, the gates, and what is sure."""
    details = cast(ComparisonDetails, report.details)
    letters = list(details["runs"])
    if not quiet:
        _runs(console, report)
        _settings(console, report, letters)
    _metrics(console, report, letters, details["main"] if quiet else None)
    parts.warnings(console, report)
    for sentence in details["summary"]:
        console.print(Text(sentence), soft_wrap=True)
    parts.gates(console, report.gates)


def _runs(console: Console, report: Report) -> None:
    rows = report.records("runs")
    table = parts.titled("runs")
    shown = [name for name in _RUN if any(row[name] is not None for row in rows)]
    for name in shown:
        table.add_column("" if name == "run" else name, no_wrap=name in ("run", "started", "status"), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_run_cell(name, row[name]), "bold" if name == "run" else "") for name in shown))
    console.print(table)


def _run_cell(name: str, value: Any) -> str:
    return str(value)[:16].replace("T", " ") if name == "started" and value else cell(value)


def _settings(console: Console, report: Report, letters: Sequence[str]) -> None:
    """Settings that are not the same, by their paths."""
    rows = report.records("settings")
    if not rows:
        return
    for broken in (False, True):
        table = parts.titled("settings that differ", padding=(0, 1, 0, 0))
        table.add_column("setting", overflow="fold", no_wrap=broken)
        for letter in letters:
            table.add_column(letter, overflow="fold")
        for row in rows:
            path = _broken(row["setting"]) if broken else row["setting"]
            table.add_row(Text(path), *(Text(_setting(row[letter])) for letter in letters))
        if _fits(console, table):
            break
    console.print(table)


def _broken(name: str) -> str:
    """A long name on two lines, the last part on the second."""
    above, dot, last = name.rpartition(".")
    return f"{above}{dot}\n  {last}" if dot and len(name) > _LONG else name


def _setting(value: Any) -> str:
    text = cell(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _metrics(console: Console, report: Report, letters: Sequence[str], only: Sequence[str] | None) -> None:
    """All runs in one table; where that is too wide, a table for each run beside the first."""
    rows = [row for row in report.records("metrics") if only is None or row["metric"] in only]
    if not rows:
        return
    differences = {(row["metric"], row["run"]): row for row in report.records("differences")}
    first, *others = letters
    for apart, broken in ((False, False), (True, False), (True, True)):
        named = [{**row, "shown": _broken(row["metric"]) if broken else row["metric"]} for row in rows]
        shares = [[other] for other in others] if apart else [others]
        tables = [
            _side_by_side(f"metrics: {share[0]}" if len(shares) > 1 else "metrics", named, differences, first, share)
            for share in shares
        ]
        if all(_fits(console, table) for table in tables):
            break
    for table in tables:
        console.print(table)
    _legend(console, [differences[row["metric"], letter] for row in rows for letter in others])


def _fits(console: Console, table: Table) -> bool:
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum <= console.width


def _side_by_side(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    differences: Mapping[tuple[str, str], Mapping[str, Any]],
    first: str,
    others: Sequence[str],
) -> Table:
    """A row a metric: a column a run, and one for each difference to the first, with what is sure of it."""
    table = parts.titled(title, padding=(0, 1, 0, 0))
    table.add_column("metric", overflow="fold")
    for letter in (first, *others):
        table.add_column(letter, justify="right", no_wrap=True)
    for letter in others:
        table.add_column(f"{letter} - {first}", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
    for row in rows:
        cells = [Text(row["shown"]), *(Text(_value(row, letter)) for letter in (first, *others))]
        for letter in others:
            each = differences[row["metric"], letter]
            style, difference = _STYLES.get(each["verdict"], ""), each["difference"]
            cells.append(Text("" if difference is None else signed(row["metric"], difference, digits=3), style))
            cells.append(Text(_WORDS.get(each["verdict"], each["verdict"]), style))
        table.add_row(*cells)
    return table


def _legend(console: Console, differences: Sequence[Mapping[str, Any]]) -> None:
    """What the words beside differences mean, of those that are there."""
    verdicts = {each["verdict"] for each in differences}
    if verdicts & {"better", "worse", "differs", "unclear"}:
        text = "better, worse: the 95% interval of the difference leaves out 0; unclear: it does not"
        console.print(Text(text, style="dim"), soft_wrap=True)
    if "not known" in verdicts:
        reasons = list(dict.fromkeys(each["how"] for each in differences if each["verdict"] == "not known"))
        console.print(
            Text(f"?: whether it is more than chance is not known ({'; '.join(reasons)})", style="dim"), soft_wrap=True
        )


def _value(row: Mapping[str, Any], letter: str) -> str:
    value, deviation = row[letter], row.get(letter + DEVIATION)
    text = measure(row["metric"], value, digits=4)
    return text if not deviation else f"{text} ± {measure(row['metric'], deviation, digits=2)}"
