"""Tables of a report: trials of a search, the curve of a training run, the folds of a cross-validation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelopt_cli.results.report import Cell, Table

if TYPE_CHECKING:
    from modelopt_cli.tuning.trial import Trial


def cell(value: Any) -> Cell:
    """Plain scalars as they are; lists and sections as compact JSON."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return json.dumps(value, separators=(", ", ": "))


def trials_table(trials: Sequence[Trial], paths: Sequence[str]) -> Table:
    """A row a trial, in order of number: what it was, what came of it, its settings."""
    metrics = list(dict.fromkeys(name for trial in trials for name in trial.metrics))
    columns = ["trial", "state", "origin", *metrics, *paths, "seed", "seconds", "steps", "reason"]
    rows = [
        [
            trial.number,
            str(trial.state),
            trial.origin,
            *(trial.metrics.get(name) for name in metrics),
            *(cell(trial.params.get(path)) for path in paths),
            trial.seed,
            round(trial.seconds, 4),
            trial.curve[-1].step if trial.curve else 0,
            trial.reason,
        ]
        for trial in trials
    ]
    return Table(columns=columns, rows=rows)


def curve_table(points: Iterable[tuple[int, Mapping[str, float]]], step: str = "epoch") -> Table:
    """A row a report: the step and its metrics."""
    points = list(points)
    metrics = list(dict.fromkeys(name for _, values in points for name in values))
    return Table(
        columns=[step, *metrics], rows=[[at, *(values.get(name) for name in metrics)] for at, values in points]
    )
