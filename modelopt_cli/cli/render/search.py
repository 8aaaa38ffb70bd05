"""A search: its best trials, the front of several objectives, what the result depended on, and the best setting."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import metrics, parts, plan, training
from modelopt_cli.cli.render.console import NAME
from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.readable import cell, figure, measure, number, plural, short
from modelopt_cli.experiment.expected_metrics import SAMPLES
from modelopt_cli.results.details import BestPosterior, SearchDetails
from modelopt_cli.results.picking import pick_commands
from modelopt_cli.results.report import Report
from modelopt_cli.results.tables import METRIC, column_of
from modelopt_cli.tuning.trials.table import TRIAL_COLUMNS

_ROWS = 10  # of the trials, and of the front
_WIDEST = 28  # letters of a cell of the trials
_LEAST = 0.01  # share of the variance from which on a setting is named
_STATES = {"completed": "done"}
_MEASURED = ("validation.", "train.", "model.", "test.")
_LEG = ("from_step", "to_step", "trial")  # columns of the schedule that are no settings
_FILES = {
    "front": "front",
    "best": "best setting",
    "model": "model",
    "int8": "int8 file",
    "trial_dir": "best folder",
    "logs": "logs",
}
_ENDED = ("completed", "stopped", "failed")


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the front's worth, the best setting, the result, the gates and the files."""
    details = cast(SearchDetails, report.details)
    if not quiet:
        _trials(console, report, details)
        _front(console, report, details)
        _importances(console, report, details)
        training.folds(console, report)
    _hypervolume(console, details)
    parts.latency(console, report)
    if not quiet:
        _schedule(console, report)
    metrics.show(console, report)
    if report.plan and (not quiet or (report.best is None and not report.metrics)):
        plan.planned(console, report.plan)
    if details.get("why") and not quiet:
        parts.line(console, "ended by ", details["why"])
    training.remarks(console, report)
    if report.best is not None:
        console.print(Text(f"best setting (trial {report.best['number']})", style="bold"))
        for path, value in report.best["params"].items():
            parts.line(console, "", Text.assemble("  ", (path, NAME), " = ", number(value)))
    parts.result(console, *_results(report, details))
    if not quiet:
        _posterior(console, details.get("believed"))
    parts.gates(console, report.gates)
    command = details.get("workflow", "train")
    for label, text in zip(("take one", ""), pick_commands(report), strict=False):
        parts.entry(console, label, text)
    parts.files(console, report, _FILES, {"best": f"modelopt {command if command != 'command' else 'train'} runs it"})


# What came of it


def _results(report: Report, details: SearchDetails) -> list[str]:
    """The best values; what the file's own values came to; what the test split says."""
    if report.best is None:
        return []
    goals = [Goal.parse(goal) for goal in details.get("objective", [])]
    trials = report.records("trials")
    values = report.best.get("metrics", {})
    shown = [f"{goal.metric} {measure(goal.metric, values[goal.metric])}" for goal in goals if goal.metric in values]
    if not shown:
        return []
    ended = sum(row["state"] in _ENDED for row in trials)
    of = f" of {ended}" if ended else ""
    first = f"{', '.join(shown)}  (trial {report.best['number']}{of})"
    compromises = len(report.records("front")) if len(goals) > 1 else 0
    front = f"one of {plural(compromises, 'best compromise')} (front.csv)" if compromises > 1 else ""
    return [first, front, _compared(report, goals, trials), _on_test(report, goals)]


def _compared(report: Report, goals: Sequence[Goal], trials: Sequence[Mapping[str, Any]]) -> str:
    """With the file's own values, which are tried first where they lie in the space."""
    own = next((row for row in trials if row.get("origin") == "file"), None)
    if own is None or report.best is None or not goals:
        return ""
    if own["trial"] == report.best["number"]:
        return "these are the file's own values: no other setting is better"
    texts = []
    for goal in goals:
        value, best = own.get(column_of(goal.metric, own)), report.best.get("metrics", {}).get(goal.metric)
        if value is None or best is None:
            continue
        change = f" ({figure(best - value) if best < value else '+' + figure(best - value)})" if len(goals) == 1 else ""
        texts.append(f"{goal.metric} {measure(goal.metric, value)}{change}")
    return f"the file's own values: {', '.join(texts)}" if texts else ""


def _on_test(report: Report, goals: Sequence[Goal]) -> str:
    names = [f"test.{metrics.split_of(goal.metric)[1]}" for goal in goals]
    known = [name for name in dict.fromkeys(names) if name in report.metrics and name != goals[0].metric]
    return ", ".join(f"{name} {measure(name, report.metrics[name])}" for name in known)


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
    ended = sum(row["state"] in _ENDED for row in rows)
    of = f"the best {len(best)} of {plural(ended, 'trial')}" if ended > len(best) else plural(ended, "trial")
    table, left_out = _fitting(console, f"{report.name}: {of}", shown, metrics, settings, best)
    console.print(table)
    if left_out:
        where = "a wider window shows it"
        if "tables" in report.artefacts:
            where = f"all are in {parts.nearby(report.artefacts['tables'])}"
        text = f"({plural(left_out, 'more setting')} not shown here; {where})"
        parts.line(console, "", Text(text, style="dim"))


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
    while not parts.fits(console, table := _trials_table(title, shown, metrics, rows, folded=folded)):
        if not folded:
            folded = True
        elif "seconds" in shown:  # settings say more than times
            shown = shown[:-1]
        elif shown[-1] in settings:
            shown, left_out = shown[:-1], left_out + 1
        else:
            break
    return table, left_out


def _trials_table(
    title: str, shown: Sequence[str], metrics: Sequence[str], rows: Sequence[Mapping[str, Any]], *, folded: bool
) -> Table:
    """Settings go by the last names of their paths, metrics by their whole name."""
    table = parts.titled(title, padding=(0, 1, 0, 0))
    settings = [name for name in shown if name not in metrics]
    columns: list[list[Text]] = []
    for name in shown:
        header = name if name in metrics or name.startswith(METRIC) else short(name, settings)
        header = _folded(header) if folded else header
        texts = [_trial_cell(name, row.get(name), metrics) for row in rows]
        if name in metrics:
            columns.append(parts.figures(table, header, texts))
            continue
        words = all(isinstance(row.get(name), str | None) for row in rows)
        table.add_column(Text(header), no_wrap=True, justify="left" if words else "right")
        columns.append([Text(text, overflow="ellipsis") for text in texts])
    for cells in zip(*columns, strict=True):
        table.add_row(*cells)
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
    if name in metrics and isinstance(value, int | float):
        return measure(name, value)
    if isinstance(value, float):
        return f"{value:.3g}"
    text = cell(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


# What they tell


def _front(console: Console, report: Report, details: SearchDetails) -> None:
    """The best compromises, thinned out evenly to a few rows, extremes kept."""
    if "front" not in report.tables:
        return
    columns, rows = report.tables["front"].columns, report.records("front")
    shown = [column_of(Goal.parse(goal).metric, columns) for goal in details["objective"]]
    kept = [rows[round(i * (len(rows) - 1) / (_ROWS - 1))] for i in range(_ROWS)] if len(rows) > _ROWS else rows
    of = f"{len(kept)} of {plural(len(rows), 'best compromise')}" if len(kept) < len(rows) else ""

    def table(names: Sequence[str], *, folded: bool) -> Table:
        made = parts.titled(f"front: {of or plural(len(rows), 'best compromise')}", padding=(0, 1, 0, 0))
        made.add_column("trial", justify="right", no_wrap=True)
        texts = [
            parts.figures(made, _folded(name) if folded else name, [measure(name, row[name]) for row in kept])
            for name in names
        ]
        for row, *cells in zip(kept, *texts, strict=True):
            made.add_row(str(row["trial"]), *cells)
        return made

    wide = table(shown, folded=False)
    fitted = parts.fitting(console, shown, lambda names: table(names, folded=True))
    console.print(wide if parts.fits(console, wide) else fitted)


def _hypervolume(console: Console, details: SearchDetails) -> None:
    """What the front is worth."""
    if "hypervolume" not in details:
        return
    corner = ", ".join(f"{metric} {number(value)}" for metric, value in details["reference"].items())
    parts.line(console, "hypervolume ", f"{number(details['hypervolume'])} up to {corner}", "bold")


def _importances(console: Console, report: Report, details: SearchDetails) -> None:
    """`lr 71% ± 4, type 12% ± 2, 3 others below 1%`, a line an objective; or why nothing can be said."""
    rows = report.records("importance")
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    for metric in metrics:
        label = f"importance for {metric}: " if len(metrics) > 1 else "importance: "
        parts.line(console, label, _shares([row for row in rows if row["metric"] == metric]), "bold")
    for metric, reason in details.get("importance_missing", {}).items():
        parts.line(console, "", Text(f"importance for {metric}: {reason}", style="dim"))


def _shares(rows: Sequence[Mapping[str, Any]]) -> str:
    paths = [row["path"] for row in rows]
    shown = [
        f"{short(row['path'], paths)} {row['importance']:.0%} ± {100 * row['deviation']:.0f}"
        for row in rows
        if row["importance"] is not None and row["importance"] >= _LEAST
    ]
    left = len(rows) - len(shown)
    return ", ".join([*shown, *([f"{plural(left, 'other')} below {_LEAST:.0%}"] if left else [])])


def _posterior(console: Console, best: BestPosterior | None) -> None:
    """What the best setting is worth, where results are noisy; nothing where it is too early to say."""
    if best is None:
        return
    tried = f"tried {plural(best['times'], 'time')}, mean {number(best['mean'])}" if best["times"] > 1 else "tried once"
    worth = f"{number(best['believed'])} ± {number(best['uncertainty'])} ({tried}); noise {number(best['noise'])}"
    parts.line(console, f"believed {best['metric']} of the best: ", worth, "bold")


def _schedule(console: Console, report: Report) -> None:
    """How the best trial came about, where it went on from another one's state: a row a part, what changes in it."""
    rows = report.records("schedule")
    if "schedule" not in report.tables:
        return
    columns = report.tables["schedule"].columns
    changing = [name for name in columns if name not in _LEG and len({json.dumps(row[name]) for row in rows}) > 1]
    parts.line(
        console,
        "",
        Text(f"schedule of the best trial: {plural(len(rows), 'setting')}, one after the other", style="bold"),
    )

    def table(names: Sequence[str]) -> Table:
        made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("steps", "trial", *(short(name, changing) for name in names)):
            made.add_column(Text(name), justify="right", no_wrap=True)
        for row in rows:
            values = (f"{row[name]:.3g}" if isinstance(row[name], float) else number(row[name]) for name in names)
            made.add_row(Text(f"{row['from_step']} to {row['to_step']}"), Text(str(row["trial"])), *map(Text, values))
        return made

    console.print(parts.fitting(console, changing, table))
