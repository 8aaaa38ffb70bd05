"""Trials as a table: what `trials.csv` holds, and `Study.to_pandas`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelopt_cli.results.report import Table
from modelopt_cli.results.tables import cell, metric_column

if TYPE_CHECKING:
    from modelopt_cli.tuning.trials.trial import Trial

TRIAL_COLUMNS = (
    "trial",
    "state",
    "origin",
    "seed",
    "seconds",
    "steps",
    "parent",
    "born",
    "failure",
    "feasible",
    "reason",
)
"""Columns of the table of trials that are neither metrics nor settings."""


def trials_table(trials: Sequence[Trial], paths: Sequence[str]) -> Table:
    """A row a trial, in order of number: what it was, what came of it, its settings.

    Columns that are there where they say something: `parent` and `born` (trials that went on from others), `failure`
    (the kind: nan, memory, crash, timeout, error), `feasible` (whether the constraints are met, of what was measured).
    """
    metrics = list(dict.fromkeys(name for trial in trials for name in trial.metrics))
    own = {*TRIAL_COLUMNS, *paths}
    born = ["parent", "born"] if any(trial.parent is not None for trial in trials) else []
    named = [metric_column(name, own) for name in metrics]
    failed = ["failure"] if any(trial.failure for trial in trials) else []
    constrained = ["feasible"] if any(trial.margins for trial in trials) else []
    columns = ["trial", "state", "origin", *named, *paths, "seed", "seconds", "steps"]
    columns += [*born, *failed, *constrained, "reason"]
    rows = [
        [
            trial.number,
            str(trial.state),
            trial.origin,
            *(trial.metrics.get(name) for name in metrics),
            *(cell(trial.params.get(path)) for path in paths),
            trial.seed,
            round(trial.seconds, 4),
            trial.step,
            *(getattr(trial, name) for name in born),
            *(trial.failure or None for _ in failed),
            *(trial.violation == 0.0 if trial.margins else None for _ in constrained),
            trial.reason,
        ]
        for trial in trials
    ]
    return Table(columns=columns, rows=rows)


def curves_table(trials: Sequence[Trial], metrics: Sequence[str]) -> Table:
    """A row a report of a trial, failed ones too: trial, step, the objectives' metrics; what is not finite is empty.

    A trial that went on from another's state begins with the first step of its own.
    """
    own = ("trial", "step")
    names = list(dict.fromkeys(metrics))
    rows = [
        [trial.number, point.step, *(_finite(point.metrics.get(name)) for name in names)]
        for trial in trials
        for point in trial.curve
    ]
    return Table(columns=[*own, *(metric_column(name, own) for name in names)], rows=rows)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
