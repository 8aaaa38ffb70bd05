"""The best compromises of a search with several objectives: the front as a short table, and what it is worth."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import number
from modelopt_cli.core.conditions import Goal
from modelopt_cli.results.report import Report
from modelopt_cli.results.tables import column_of

_ROWS = 10


def render_front(console: Console, report: Report, *, quiet: bool) -> None:
    """The front, thinned out evenly to a few rows, extremes kept; then its hypervolume. `quiet` leaves the latter."""
    if not quiet:
        _table(console, report)
    if "hypervolume" not in report.details:
        return
    reference = report.details["reference"]
    from_where = ", ".join(f"{metric} {number(value)}" for metric, value in reference.items())
    value = number(report.details["hypervolume"])
    console.print(Text.assemble(("hypervolume ", "bold"), value, (f" up to {from_where}", "dim")), soft_wrap=True)


def _table(console: Console, report: Report) -> None:
    front = report.tables["front"]
    metrics = [column_of(Goal.parse(goal).metric, front.columns) for goal in report.details["objective"]]
    shown = ["trial", *metrics]
    rows = front.records()
    kept = [rows[round(i * (len(rows) - 1) / (_ROWS - 1))] for i in range(_ROWS)] if len(rows) > _ROWS else rows
    what = f"{len(kept)} of {len(rows)}" if len(kept) < len(rows) else f"{len(rows)}"
    table = Table(
        title=f"front: {what} best compromises", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
        pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for name in shown:
        table.add_column(Text(name), justify="right", overflow="fold")
    for row in kept:
        table.add_row(*(Text(number(row[name])) for name in shown))
    console.print(table)
