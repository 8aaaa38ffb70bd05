"""A model that was picked out of a search: which, why, what it was chosen by, and what it is worth on test."""

from __future__ import annotations

from typing import cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import metrics, parts, plan, training
from modelopt_cli.cli.render.console import NAME
from modelopt_cli.core.readable import measure, number
from modelopt_cli.results.details import PickDetails
from modelopt_cli.results.report import Report

_FILES = {"best": "its setting", "model": "model", "int8": "int8 file", "dense": "before pruning", "teacher": "teacher"}


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves what was chosen, and by what, the result, the gates and the files."""
    details = cast(PickDetails, report.details)
    parts.line(console, "", Text(f"trial {details['trial']} of {parts.nearby(details['search'])}", style="bold"))
    parts.line(console, "chosen as ", details["why"])
    if not quiet:
        for path, value in (report.best or {}).get("params", {}).items():
            parts.line(console, "", Text.assemble("  ", (path, NAME), " = ", number(value)))
        for path, value in details["changed"].items():
            parts.line(console, "", Text.assemble("  ", (path, NAME), " = ", number(value), "  (to train it out)"))
    _table(console, report, details)
    if not quiet:
        metrics.show(console, report)
        plan.times(console, report)
    training.remarks(console, report)
    parts.result(console, *_results(report, details))
    parts.gates(console, report.gates)
    parts.files(console, report, _FILES, {"best": f"modelopt {details['workflow']} runs it"})


def _table(console: Console, report: Report, details: PickDetails) -> None:
    """What it was chosen by, beside what it is worth now."""
    rows = report.records("picked")
    if not rows:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    names = [name for name in report.tables["picked"].columns if any(row[name] is not None for row in rows)]
    if not details["refined"]:
        names = [name for name in names if name != "now"]
    table.add_column("")
    texts = []
    for name in names[1:]:
        values = ["" if row[name] is None else measure(row["metric"], row[name]) for row in rows]
        texts.append(parts.figures(table, name, values))
    for row, *cells in zip(rows, *texts, strict=True):
        table.add_row(Text(row["metric"], style=NAME), *cells)
    console.print(table)


def _results(report: Report, details: PickDetails) -> list[str]:
    """What it is worth on test; by how much it got better."""
    sentences = training.results(report)
    if not details["refined"]:
        return sentences
    changes = [
        f"{name} {'+' if change > 0 else ''}{measure(name, change, digits=3)}"
        for name, change in details["gain"].items()
        if change
    ]
    return [*sentences, f"trained out: {', '.join(changes) or 'nothing changed'}"]
