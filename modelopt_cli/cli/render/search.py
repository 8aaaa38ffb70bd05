"""A search: its best trials, the front of several objectives, what the result depended on, and the best setting."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import parts, plan, training
from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.readable import cell, number, short
from modelopt_cli.experiment.expected_metrics import SAMPLES
from modelopt_cli.results.details import BestPosterior, SearchDetails
from modelopt_cli.results.report import Report
from modelopt_cli.results.tables import METRIC, column_of
from modelopt_cli.workflows.search.tables import TRIAL_COLUMNS

_ROWS = 10  # of the trials, and of the front
_WIDEST = 28  # letters of a cell of the trials
_LEAST = 0.01  # share of the variance from which on a setting is named
_STATES = {"completed": "done"}
_MEASURED = ("validation.", "train.", "model.", "test.")
_LEG = ("from_step", "to_step", "trial")  # columns of the schedule that are no settings
_FILES = {
    "tables": "tables",
    "report": "report",
    "best": "best setting",
    "model": "model",
    "trial_dir": "best folder",
    "logs": "logs",
    "directory": "run",
}


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the front's worth, the best setting, the metrics, the gates and the files."""
    details = cast(SearchDetails, report.details)
    if not quiet:
        _trials(console, report, details)
    _front(console, report, details, quiet=quiet)
    if not quiet:
        if details.get("why"):
            parts.line(console, "ended by ", details["why"])
        _importances(console, report, details)
        _posterior(console, details.get("believed"))
        training.folds(console, report)
    if report.best is not None:
        console.print(Text(f"best setting (trial {report.best['number']})", style="bold"))
        for path, value in report.best["params"].items():
            console.print(Text.assemble("  ", (path, "cyan"), " = ", number(value)), soft_wrap=True)
    if not quiet:
        _schedule(console, report)
    training.metrics(console, report.metrics)
    if report.plan and (not quiet or (report.best is None and not report.metrics)):
        plan.planned(console, report.plan)
    training.remarks(console, report)
    _files(console, report, details)


def _files(console: Console, report: Report, details: SearchDetails) -> None:
    for key, label in _FILES.items():
        if key in report.artefacts:
            hint = f"   (modelopt {details['workflow']} runs it)" if key == "best" else ""
            path = report.artefacts[key]
            console.print(Text.assemble((f"{label:<13}", "dim"), path, (hint, "dim")), soft_wrap=True)


# The best trials


def _trials(console: Console, report: Report, details: SearchDetails) -> None:
    """The best trials first; the file holds them all."""
    rows = report.records("trials")
    if not rows:
        return
    columns = report.tables["trials"].columns
    goals = [Goal.parse(goal) for goal in details.get("objective", [])]
    metrics = [column_of(goal.metric, columns) for goal in goals]
    searched = set((report.best or {}).get("params", {}))
    measured = {name for name in columns if name in TRIAL_COLUMNS or name.startswith(_MEASURED)}
    lacking = dict(zip((row["trial"] for row in rows), _lacking(report, rows), strict=True))
    rows.sort(key=lambda row: (row["state"] == "failed", lacking[row["trial"]], _order(row, goals, metrics)))
    best = rows[:_ROWS]
    settings = [
        name
        for name in columns
        if (name in searched or name not in measured)
        and name not in metrics
        and any(row.get(name) is not None for row in best)
    ]
    state = ["state"] if any(row["state"] != "completed" for row in best) else []
    samples = [SAMPLES] if SAMPLES in columns and any(lacking[row["trial"]] for row in best) else []
    shown = ["trial", *state, *samples, *metrics, *settings, "seconds"]
    ended = sum(row["state"] in ("completed", "stopped", "failed") for row in rows)
    of = f"the best {len(best)} of {ended} trials" if ended > len(best) else f"{ended} trials"
    table, left_out = _fitting(console, f"{report.name}: {of}", shown, metrics, settings, best)
    console.print(table)
    if left_out:
        where = "a wider window shows it"
        if "tables" in report.artefacts:
            where = f"all are in {report.artefacts['tables']}"
        what = "1 more setting" if left_out == 1 else f"{left_out} more settings"
        console.print(Text(f"({what} not shown here; {where})", style="dim"), soft_wrap=True)


def _lacking(report: Report, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Steps that each trial lacks to a complete one, where its metrics are of fewer folds or samples; else 0."""
    steps = [int(row.get("steps") or 0) for row in rows]
    most = max(steps, default=0) if (report.plan or {}).get("complete") else 0
    return [max(0, most - each) for each in steps]


def _order(row: Mapping[str, Any], goals: Sequence[Goal], columns: Sequence[str]) -> tuple[float, ...]:
    """By the objectives, whose values stand in these columns."""
    values = [row.get(column) for column in columns]
    if any(value is None for value in values):
        return (float("inf"),) * max(1, len(goals))
    return tuple(
        -value if goal.maximize else value for goal, value in zip(goals, values, strict=True) if value is not None
    )


def _fitting(
    console: Console,
    title: str,
    shown: Sequence[str],
    metrics: Sequence[str],
    settings: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
) -> tuple[Table, int]:
    """The table, as wide as the console allows, and how many settings had to be left out of it."""
    left_out, folded = 0, False
    while not _fits(console, table := _trials_table(title, shown, metrics, rows, folded=folded)):
        if not folded:
            folded = True
        elif "seconds" in shown:  # settings say more than times
            shown = shown[:-1]
        elif shown[-1] in settings:
            shown, left_out = shown[:-1], left_out + 1
        else:
            break
    return table, left_out


def _fits(console: Console, table: Table) -> bool:
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum <= console.width


def _trials_table(
    title: str, shown: Sequence[str], metrics: Sequence[str], rows: Sequence[Mapping[str, Any]], *, folded: bool
) -> Table:
    """Settings go by the last names of their paths, metrics by their whole name."""
    table = parts.titled(title, padding=(0, 1, 0, 0))
    settings = [name for name in shown if name not in metrics]
    for name in shown:
        header = name if name in metrics or name.startswith(METRIC) else short(name, settings)
        text = all(isinstance(row.get(name), str | None) for row in rows)
        table.add_column(Text(_folded(header) if folded else header), no_wrap=True, justify="left" if text else "right")
    for row in rows:
        table.add_row(*(Text(_trial_cell(name, row.get(name), metrics), overflow="ellipsis") for name in shown))
    return table


def _folded(header: str) -> str:
    """A long header on two lines, broken after the dot or underscore next to its middle."""
    breaks = [at + 1 for at, letter in enumerate(header[:-1]) if letter in "._"]
    if len(header) <= 8 or not breaks:
        return header
    at = min(breaks, key=lambda each: abs(each - len(header) / 2))
    return f"{header[:at]}\n{header[at:]}"


def _trial_cell(name: str, value: Any, metrics: Sequence[str]) -> str:
    if name == "state":
        return _STATES.get(str(value), str(value))
    if name == SAMPLES and value is not None:
        return f"{value:,.0f}"
    if isinstance(value, float) and name not in metrics:
        return f"{value:.3g}"
    text = cell(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


# What they tell


def _front(console: Console, report: Report, details: SearchDetails, *, quiet: bool) -> None:
    """The best compromises, thinned out evenly to a few rows, extremes kept; then what the front is worth."""
    if "front" not in report.tables:
        return
    if not quiet:
        columns, rows = report.tables["front"].columns, report.records("front")
        shown = ["trial", *(column_of(Goal.parse(goal).metric, columns) for goal in details["objective"])]
        kept = [rows[round(i * (len(rows) - 1) / (_ROWS - 1))] for i in range(_ROWS)] if len(rows) > _ROWS else rows
        what = f"{len(kept)} of {len(rows)}" if len(kept) < len(rows) else f"{len(rows)}"
        table = parts.titled(f"front: {what} best compromises", padding=(0, 1, 0, 0))
        for name in shown:
            table.add_column(Text(name), justify="right", overflow="fold")
        for row in kept:
            table.add_row(*(Text(number(row[name])) for name in shown))
        console.print(table)
    if "hypervolume" in details:
        corner = ", ".join(f"{metric} {number(value)}" for metric, value in details["reference"].items())
        value = number(details["hypervolume"])
        console.print(Text.assemble(("hypervolume ", "bold"), value, (f" up to {corner}", "dim")), soft_wrap=True)


def _importances(console: Console, report: Report, details: SearchDetails) -> None:
    """`lr 71% ± 4, type 12% ± 2, 3 others below 1%`, a line an objective; or why nothing can be said."""
    rows = report.records("importance")
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    for metric in metrics:
        label = f"importance for {metric}: " if len(metrics) > 1 else "importance: "
        parts.line(console, label, _shares([row for row in rows if row["metric"] == metric]), "bold")
    for metric, reason in details.get("importance_missing", {}).items():
        console.print(Text(f"importance for {metric}: {reason}", style="dim"), soft_wrap=True)


def _shares(rows: Sequence[Mapping[str, Any]]) -> str:
    paths = [row["path"] for row in rows]
    shown = [
        f"{short(row['path'], paths)} {row['importance']:.0%} ± {100 * row['deviation']:.0f}"
        for row in rows
        if row["importance"] is not None and row["importance"] >= _LEAST
    ]
    left = len(rows) - len(shown)
    return ", ".join([*shown, *([f"{left} other{'s' * (left > 1)} below {_LEAST:.0%}"] if left else [])])


def _posterior(console: Console, best: BestPosterior | None) -> None:
    """What the best setting is worth, where results are noisy; nothing where it is too early to say."""
    if best is None:
        return
    tried = f"tried {best['times']} times, mean {number(best['mean'])}" if best["times"] > 1 else "tried once"
    worth = f"{number(best['believed'])} ± {number(best['uncertainty'])} ({tried}); noise {number(best['noise'])}"
    parts.line(console, f"believed {best['metric']} of the best: ", worth, "bold")


def _schedule(console: Console, report: Report) -> None:
    """How the best trial came about, where it went on from another one's state: a row a part, what changes in it."""
    rows = report.records("schedule")
    if "schedule" not in report.tables:
        return
    columns = report.tables["schedule"].columns
    changing = [name for name in columns if name not in _LEG and len({json.dumps(row[name]) for row in rows}) > 1]
    title = f"schedule of the best trial: {len(rows)} settings, one after the other"
    console.print(Text(title, style="bold"), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("steps", "trial", *(short(name, changing) for name in changing)):
        table.add_column(Text(name), justify="right", overflow="fold")
    for row in rows:
        values = (f"{row[name]:.3g}" if isinstance(row[name], float) else number(row[name]) for name in changing)
        table.add_row(Text(f"{row['from_step']} to {row['to_step']}"), Text(str(row["trial"])), *map(Text, values))
    console.print(table)
