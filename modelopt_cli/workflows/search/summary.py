"""What a report on a search says first: how many trials there were, and what was won over the file's own values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelopt_cli.results.details import Baseline, SearchSummary
from modelopt_cli.tuning.trials.trial import State

if TYPE_CHECKING:
    from modelopt_cli.core.conditions import Goal
    from modelopt_cli.tuning.trials.trial import Trial

OWN_VALUES = "file"
"""The origin of the trial that has the file's own values."""


def search_summary(trials: Sequence[Trial], goals: Sequence[Goal], best: Trial | None) -> SearchSummary:
    """Details of a search: trials by state, failures by kind; the baseline, where the file's own values were tried.

    With `best`, also by how much it is better than the baseline in each objective; nothing where the baseline was not
    complete, for a stopped trial's values are those of fewer steps.
    """
    summary: SearchSummary = {"trials": dict(Counter(str(trial.state) for trial in trials))}
    failures = Counter(trial.failure for trial in trials if trial.failure)
    if failures:
        summary["failures"] = dict(failures)
    own = next((trial for trial in trials if trial.origin == OWN_VALUES and trial.state.finished), None)
    if own is None:
        return summary
    baseline: Baseline = {"trial": own.number, "state": str(own.state), "metrics": dict(own.metrics)}
    summary["baseline"] = baseline
    if best is not None and own.state is State.COMPLETED:
        losses = {goal.metric: (goal.loss(own.metrics), goal.loss(best.metrics)) for goal in goals}
        summary["improvement"] = {
            metric: before - now for metric, (before, now) in losses.items() if before is not None and now is not None
        }
    return summary
