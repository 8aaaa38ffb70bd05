"""What a search teaches about its parameters: tables of importances and effects, for its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelopt_cli.results.report import Cell, Table
from modelopt_cli.results.tables import cell

if TYPE_CHECKING:
    from modelopt_cli.core.conditions import Goal
    from modelopt_cli.tuning.analysis.importance import Analysis, Importance
    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Trial

_COLUMNS = {
    "importance": ["path", "importance", "deviation", "trials", "when", "metric"],
    "effects": ["path", "value", "mean", "deviation", "when", "metric"],
    "effects_pairs": ["path_a", "value_a", "path_b", "value_b", "mean", "metric"],
}


@dataclass
class SearchAnalysis:
    """`tables`: those of _COLUMNS, none when there is nothing to say; `missing`: metric -> why it has no rows."""

    tables: dict[str, Table] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def search_analysis(space: Space, trials: Sequence[Trial], goals: Sequence[Goal]) -> SearchAnalysis:
    """Importance and effects of every parameter, and effects of the pairs that explain most, for each objective.

    Means and deviations are in the metric's unit. Trials that failed say nothing here.
    """
    from modelopt_cli.tuning.analysis.finished_trials import FinishedTrials

    if any(trial.parent is not None for trial in trials):
        reason = "not known: trials went on from others' states, so that no setting alone made their values"
        return SearchAnalysis(missing={goal.metric: reason for goal in goals})
    rows: dict[str, list[list[Cell]]] = {name: [] for name in _COLUMNS}
    missing: dict[str, str] = {}
    for objective, goal in enumerate(goals):
        finished = FinishedTrials.of(trials, objective)
        reason = finished.too_few(space)
        if reason:
            missing[goal.metric] = reason
            continue
        from modelopt_cli.tuning.analysis.importance import Analysis

        for name, of_goal in _Rows(space, Analysis(space, finished), goal).all().items():
            rows[name] += of_goal
    tables = {name: Table(columns=_COLUMNS[name], rows=table) for name, table in rows.items() if table}
    return SearchAnalysis(tables, missing)


class _Rows:
    """The rows of one objective."""

    def __init__(self, space: Space, analysis: Analysis, goal: Goal) -> None:
        self._space, self._analysis = space, analysis
        self._metric, self._sign = goal.metric, -1.0 if goal.maximize else 1.0
        self._when = [row["when"] for row in space.describe()]

    def all(self) -> Mapping[str, list[list[Cell]]]:
        importances = sorted(self._analysis.importances(), key=lambda each: (-(each.share or 0.0), each.position))
        return {
            "importance": [self._importance(each) for each in importances],
            "effects": [row for each in importances for row in self._effect(each)],
            "effects_pairs": self._pairs(importances),
        }

    def _importance(self, each: Importance) -> list[Cell]:
        path, when = self._space.parameters[each.position].path, self._when[each.position]
        return [path, each.share, each.deviation, each.trials, when, self._metric]

    def _effect(self, each: Importance) -> list[list[Cell]]:
        if each.share is None:
            return []
        parameter, effect = self._space.parameters[each.position], self._analysis.effects.of(each.position)
        columns = (array.tolist() for array in (effect.codes[0], self._sign * effect.mean, effect.deviation))
        rest = (self._when[each.position], self._metric)
        return [
            [parameter.path, cell(parameter.decode(code)), mean, deviation, *rest]
            for code, mean, deviation in zip(*columns, strict=True)
        ]

    def _pairs(self, importances: list[Importance]) -> list[list[Cell]]:
        rows: list[list[Cell]] = []
        seen: set[tuple[str, str]] = set()
        for a, b, effect in self._analysis.pairs(importances):
            first, second = self._space.parameters[a], self._space.parameters[b]
            if (first.path, second.path) in seen:  # the same names in another branch, where they matter less
                continue
            seen.add((first.path, second.path))
            for code, means in zip(effect.codes[0].tolist(), effect.mean.tolist(), strict=True):
                for other, mean in zip(effect.codes[1].tolist(), means, strict=True):
                    values = cell(first.decode(code)), cell(second.decode(other))
                    rows.append([first.path, values[0], second.path, values[1], self._sign * mean, self._metric])
        return rows
