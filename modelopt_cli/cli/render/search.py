"""A report as tables: trials, metrics, plan and what it took, gates, and where the files lie."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import duration, gates, number, positive, size
from modelopt_cli.cli.render.front import render_front
from modelopt_cli.cli.render.importance import importances
from modelopt_cli.cli.render.plan import render_plan
from modelopt_cli.cli.render.replication import render_believed
from modelopt_cli.cli.render.schedule import render_schedule
from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.text import message_lines
from modelopt_cli.experiment.expected_metrics import SAMPLES
from modelopt_cli.results.report import Report
from modelopt_cli.results.tables import METRIC, column_of
from modelopt_cli.workflows.shared.tables import TRIAL_COLUMNS

_ROWS = 10  # of the trials table
_WIDEST = 28  # letters of a cell of that table
_STATES = {"completed": "done"}
_MEASURED = ("validation.", "train.", "model.", "test.")


def render_report(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the metrics, the gates and the files."""
    if "trials" in report.tables and report.tables["trials"].rows and not quiet:
        _trials(console, report)
    if "front" in report.tables:
        render_front(console, report, quiet=quiet)
    if report.details.get("why") and not quiet:
        console.print(Text.assemble(("ended by ", "dim"), report.details["why"]), soft_wrap=True)
    if not quiet:
        importances(console, report)
        render_believed(console, report.details.get("believed"))
    if "folds" in report.tables and not quiet:
        _table(console, report.tables["folds"].columns, report.tables["folds"].rows, "folds")
    if "space" in report.details and not quiet:
        rows = [[row["path"], row["kind"], row["range"], row["when"] or "always"] for row in report.details["space"]]
        _table(console, ["path", "kind", "range", "searched when"], rows, "search space")
    if report.best is not None:
        _best(console, report.best)
    if not quiet:
        render_schedule(console, report)
    _metrics(console, report.metrics)
    if report.plan and (not quiet or (report.best is None and not report.metrics)):  # the whole of a dry run
        render_plan(console, report.plan)
    positive(console, report)
    _stopping(console, report.details.get("early_stopping"))
    gates(console, report.gates)
    for warning in report.warnings:
        console.print(Text.assemble(("warning: ", "yellow"), warning), soft_wrap=True)
    if report.status == "failed":
        console.print(Text.assemble(("failed ", "bold red"), message_lines(report.reason)), soft_wrap=True)
    workflow = "prune" if "stages" in report.tables else "distill" if "learners" in report.tables else "train"
    _files(console, report.artefacts, workflow)


def _stopping(console: Console, stopping: Mapping[str, Any] | None) -> None:
    """Which samples a booster's early stopping went by."""
    if stopping is not None:
        text = f"{stopping['samples']} of {stopping['of']} train samples ({stopping['drawn']})"
        console.print(Text.assemble(("early stopping ", "dim"), text), soft_wrap=True)


def _trials(console: Console, report: Report) -> None:
    """The best trials first; the file holds them all."""
    table = report.tables["trials"]
    goals = [Goal.parse(goal) for goal in report.details.get("objective", [])]
    metrics = [column_of(goal.metric, table.columns) for goal in goals]
    searched = _searched(report)
    measured = {name for name in table.columns if name in TRIAL_COLUMNS or name.startswith(_MEASURED)}
    settings = [name for name in table.columns if name in searched or name not in measured]
    rows = table.records()
    left = dict(zip((row["trial"] for row in rows), _left(report, rows), strict=True))
    rows.sort(key=lambda row: (row["state"] == "failed", left[row["trial"]], _order(row, goals, metrics)))
    best = rows[:_ROWS]
    settings = [name for name in settings if name not in metrics and any(row.get(name) is not None for row in best)]
    state = ["state"] if any(row["state"] != "completed" for row in best) else []
    samples = [SAMPLES] if SAMPLES in table.columns and any(left[row["trial"]] for row in best) else []
    shown = ["trial", *state, *samples, *metrics, *settings, "seconds"]
    ended = sum(row["state"] in ("completed", "stopped", "failed") for row in rows)
    title = (
        f"{report.name}: the best {len(best)} of {ended} trials"
        if ended > len(best)
        else f"{report.name}: {ended} trials"
    )
    left_out = 0
    folded = False
    while not _fits(console, drawn := _trials_table(title, shown, metrics, best, folded=folded)):
        if not folded:
            folded = True
        elif "seconds" in shown:  # settings say more than times
            shown = shown[:-1]
        elif shown[-1] in settings:
            shown, left_out = shown[:-1], left_out + 1
        else:
            break
    console.print(drawn)
    if left_out:
        where = (
            f"all are in {report.artefacts['tables']}" if "tables" in report.artefacts else "a wider window shows it"
        )
        what = "1 more setting" if left_out == 1 else f"{left_out} more settings"
        console.print(Text(f"({what} not shown here; {where})", style="dim"), soft_wrap=True)


def _trials_table(
    title: str, shown: Sequence[str], metrics: Sequence[str], rows: Sequence[Mapping[str, Any]], *, folded: bool
) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    headers = _headers(shown, metrics)
    for name, header in zip(shown, headers, strict=True):
        text = all(isinstance(row.get(name), str | None) for row in rows)
        table.add_column(Text(_folded(header) if folded else header), no_wrap=True, justify="left" if text else "right")
    for row in rows:
        table.add_row(*(Text(_trial_cell(name, row.get(name), metrics), overflow="ellipsis") for name in shown))
    return table


def _headers(shown: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """Settings by the last name of their path that tells them apart; metrics by their whole name."""
    settings = [name for name in shown if name not in metrics]

    def tail(name: str, parts: int) -> str:
        return ".".join(name.split(".")[-parts:])

    def short(name: str) -> str:
        parts, most = 1, name.count(".") + 1
        while parts < most and (
            tail(name, parts).split(".")[0].isdigit() or sum(tail(o, parts) == tail(name, parts) for o in settings) > 1
        ):
            parts += 1
        return tail(name, parts)

    return [name if name in metrics or name.startswith(METRIC) else short(name) for name in shown]


def _folded(header: str) -> str:
    """A long header on two lines, broken after the dot or underscore next to its middle."""
    places = [at + 1 for at, letter in enumerate(header[:-1]) if letter in "._"]
    if len(header) <= 8 or not places:
        return header
    at = min(places, key=lambda place: abs(place - len(header) / 2))
    return f"{header[:at]}\n{header[at:]}"


def _trial_cell(name: str, value: Any, metrics: Sequence[str]) -> str:
    if name == "state":
        return _STATES.get(str(value), str(value))
    if name == SAMPLES and value is not None:
        return f"{value:,.0f}"
    if isinstance(value, float) and name not in metrics:
        return f"{value:.3g}"
    text = _cell(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _fits(console: Console, table: Table) -> bool:
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum <= console.width


def _searched(report: Report) -> set[str]:
    return set((report.best or {}).get("params", {}))


def _left(report: Report, rows: Sequence[Mapping[str, Any]]) -> list[int]:
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


def _table(console: Console, headers: Sequence[str], rows: Sequence[Sequence[Any]], title: str) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    first = max((len(_cell(row[0])) for row in rows), default=0)
    for at, header in enumerate(headers):
        table.add_column(Text(header), overflow="fold", min_width=min(first, console.width // 2) if at == 0 else None)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console.print(table)


def _cell(value: Any) -> str:
    """Sections stand in tables as JSON; those that are only a type are shown by it."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            return number(json.loads(value))
        except ValueError:
            return value
    return number(value)


def _best(console: Console, best: Mapping[str, Any]) -> None:
    console.print(Text(f"best setting (trial {best['number']})", style="bold"))
    for path, value in best["params"].items():
        console.print(Text.assemble("  ", (path, "cyan"), " = ", number(value)), soft_wrap=True)


def _metrics(console: Console, metrics: Mapping[str, float]) -> None:
    if not metrics:
        return
    splits: dict[str, dict[str, float]] = {}
    other: dict[str, float] = {}
    for name, value in metrics.items():
        split, _, rest = name.partition(".")
        if split in ("train", "validation", "test", "data") and rest and name != "train.seconds":
            splits.setdefault(rest, {})[split] = value
        else:
            other[name] = value
    columns = [
        split for split in ("train", "validation", "test", "data") if any(split in row for row in splits.values())
    ]
    if splits:
        _table(
            console,
            ["metric", *columns],
            [[name, *(row.get(c) for c in columns)] for name, row in splits.items()],
            "metrics",
        )
    for name, value in other.items():
        text = (
            duration(value) if name.endswith("seconds") else size(value) if name.endswith("_bytes") else _count(value)
        )
        console.print(Text.assemble("  ", (name, "cyan"), " ", text))


def _count(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() and abs(value) >= 1000 else number(value)


def _files(console: Console, artefacts: Mapping[str, str], workflow: str) -> None:
    names = {"tables": "tables", "report": "report", "best": "best setting", "model": "model", "directory": "run"}
    for key, label in names.items():
        if key in artefacts:
            hint = f"   (modelopt {workflow} runs it)" if key == "best" else ""
            console.print(Text.assemble((f"{label:<13}", "dim"), artefacts[key], (hint, "dim")), soft_wrap=True)
