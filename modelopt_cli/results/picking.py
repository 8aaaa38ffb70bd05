"""How a point of a search's front is taken: commands with figures of that very front, for terminal and page."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from modelopt_cli.core.conditions import Goal
from modelopt_cli.results.report import Report
from modelopt_cli.results.tables import column_of

CHECKPOINT = "checkpoint"
"""The column of the front with each trial's model, by its path from the run directory."""

SAME_AS = "same_as"
"""The column of the front with the numbers of other trials that came to the very same values."""


def pick_commands(report: Report) -> list[str]:
    """A few ways to take a model of the front, each a command; none where no models are kept."""
    table, run = report.tables.get("front"), report.artefacts.get("directory")
    if table is None or run is None or CHECKPOINT not in table.columns:
        return []
    rows = [row for row in table.records() if row.get(CHECKPOINT)]
    goals = [Goal.parse(text) for text in report.details.get("objective", [])]
    if not rows or len(goals) < 2:
        return []
    chosen = rows[len(rows) // 3]
    command = f"modelopt pick {shlex.quote(_nearby(run))}"
    bound = _bound(goals[0], chosen.get(column_of(goals[0].metric, table.columns)))
    by = f"--{'maximize' if goals[1].maximize else 'minimize'} {goals[1].metric}"
    asked = f'{command} --where "{bound}" {by}' if bound else f"{command} {by}"
    return [asked, f"{command} --trial {chosen['trial']} --refine"]


def _bound(goal: Goal, value: object) -> str:
    """A condition on the objective that this value meets, in few digits."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return ""
    digits = 3 if abs(value) < 10 else 0 if abs(value) >= 1000 else 1
    scaled = value * 10**digits
    rounded = (math.floor(scaled) if goal.maximize else math.ceil(scaled)) / 10**digits
    return f"{goal.metric} {'>=' if goal.maximize else '<='} {rounded:.{digits}f}".rstrip()


def _nearby(path: str) -> str:
    """A path as it is typed here: from the current folder where it lies below it."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


__all__: Sequence[str] = ["CHECKPOINT", "SAME_AS", "pick_commands"]
