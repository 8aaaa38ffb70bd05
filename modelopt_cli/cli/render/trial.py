"""One trial of a search: what came of it, why, its settings, its curve in short, and the end of its log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import metrics, parts
from modelopt_cli.cli.render.console import BAD, GOOD, NAME, WARNING, console
from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.readable import duration, number
from modelopt_cli.core.text import one_line, printable

if TYPE_CHECKING:
    from modelopt_cli.workflows.search.one_trial import CurvePoint, TrialDetails

_STYLES = {"completed": GOOD, "stopped": WARNING, "failed": BAD, "interrupted": WARNING}
_MOST_POINTS = 6  # of a curve
_MOST_METRICS = 4  # columns of a curve


def show(trial: TrialDetails) -> None:
    """Print all of a trial; what can be long comes last."""
    screen = console()
    _outcome(screen, trial)
    screen.print(Text("settings", style="bold"))
    for path, value in trial["params"].items():
        screen.print(
            Text.assemble("  ", (path, NAME), " = ", "null" if value is None else one_line(number(value))),
            soft_wrap=True,
        )
    if trial["metrics"]:
        screen.print(Text("metrics" if trial["state"] == "completed" else "metrics so far", style="bold"))
        metrics.of_values(screen, trial["metrics"])
    if len(trial["curve"]) > 1:
        _curve(screen, trial)
    if trial["trial_dir"] is not None:
        parts.line(screen, "folder       ", parts.nearby(trial["trial_dir"]))
    log = trial["log"]
    if log is not None:
        parts.line(screen, "log          ", parts.nearby(log["path"]))
        for line in log["lines"]:
            screen.print(Text.assemble(("│ ", "dim"), printable(line)), soft_wrap=True)
        if not log["lines"]:
            screen.print(Text("  (it has written nothing yet)", style="dim"))


def _outcome(screen: Console, trial: TrialDetails) -> None:
    state, seconds = trial["state"], trial["seconds"]
    taken = "" if seconds is None else f" {'for' if state == 'running' else 'after'} {duration(seconds)}"
    steps = "" if not trial["step"] else f", step {trial['step']}"
    steps += f" of {trial['total']}" if steps and trial["total"] is not None else ""
    best = ("  the best so far" if state != "completed" else "  the best", "bold") if trial["best"] else ""
    title = Text.assemble((f"trial {trial['trial']}  ", "bold"), (state, _STYLES.get(state, NAME)), taken, steps, best)
    screen.print(title, soft_wrap=True)
    if trial["reason"]:
        kind = f" ({trial['failure']})" if trial["failure"] not in ("", "error") else ""
        parts.line(screen, f"reason{kind}: ", trial["reason"], BAD if state == "failed" else "bold")
    origin = {"file": "the file's own values", "initial": "from tuning.initial"}.get(trial["origin"])
    if origin is not None:
        parts.line(screen, "settings are ", origin)
    if trial["parent"] is not None:
        parts.line(screen, "goes on from ", f"trial {trial['parent']}")


def _curve(screen: Console, trial: TrialDetails) -> None:
    """A few of its points, the first and the last among them, with the metrics that the search looks at first."""
    points = _spread(trial["curve"])
    goals = [Goal.parse(goal).metric for goal in trial["objective"]]
    names = list(dict.fromkeys([*goals, *(name for point in points for name in point["metrics"])]))
    names = [name for name in names if any(name in point["metrics"] for point in points)][:_MOST_METRICS]
    count = len(trial["curve"])
    title = f"curve: {count} reports" if len(points) == count else f"curve: {len(points)} of {count} reports"
    screen.print(Text(title, style="bold"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("step", *names):
        table.add_column(Text(name), justify="right", overflow="fold")
    for point in points:
        table.add_row(str(point["step"]), *(Text(number(point["metrics"].get(name))) for name in names))
    screen.print(table)


def _spread(curve: Sequence[CurvePoint]) -> list[CurvePoint]:
    if len(curve) <= _MOST_POINTS:
        return list(curve)
    return [curve[round(at * (len(curve) - 1) / (_MOST_POINTS - 1))] for at in range(_MOST_POINTS)]
