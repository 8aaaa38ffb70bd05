"""Stopping a trial that no longer improves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, final

from pydantic import Field
from typing_extensions import override

from modelopt_cli.core.readable import plural
from modelopt_cli.core.types import Count
from modelopt_cli.tuning.stoppers import Stopper

if TYPE_CHECKING:
    from modelopt_cli.core.conditions import Goal
    from modelopt_cli.tuning.trials.trial import Trial


@final
class Patience(Stopper):
    """Stops a trial whose loss has not improved for a number of reports."""

    reports: Count = Field(5, description="Reports without improvement after which a trial is stopped.")
    min_delta: Annotated[float, Field(ge=0.0)] = Field(0.0, description="Least decrease that counts as improvement.")

    def decide(self, trial: Trial, trials: Sequence[Trial]) -> str | None:
        """Looks at the trial's own curve alone; with several objectives, none of them may have improved."""
        return self.reason(trial, trials, ())

    @override
    def reason(self, trial: Trial, trials: Sequence[Trial], goals: Sequence[Goal]) -> str | None:
        """As `decide`, of `goals` where they are given, else of losses."""
        points = [point for point in trial.curve if point.losses is not None]
        if len(points) <= self.reports:
            return None
        objectives = range(len(points[0].losses or ()))
        since = [self._since_best([(p.losses or ())[objective] for p in points]) for objective in objectives]
        if min(since) < self.reports:
            return None
        names = [goal.metric for goal in goals] or ["loss"]
        if len(names) == 1:
            return f"{names[0]} has not improved for {plural(min(since), 'report')}"
        return f"none of {', '.join(names[:-1])} and {names[-1]} has improved for {plural(min(since), 'report')}"

    def _since_best(self, losses: Sequence[float]) -> int:
        """How many reports ago the loss last improved on its best by `min_delta`."""
        best, at = losses[0], 0
        for index, loss in enumerate(losses):
            if loss < best - self.min_delta:
                best, at = loss, index
        return len(losses) - 1 - at
