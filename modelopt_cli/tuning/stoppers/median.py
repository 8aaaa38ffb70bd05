"""The median stopping rule.

Golovin et al. 2017, "Google Vizier: A Service for Black-Box Optimization", section 3.2.1: a trial is stopped at step s
when its best loss so far is worse than the median, over the completed trials, of their running averages up to s.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Annotated, final

from pydantic import Field
from typing_extensions import override

from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.types import Count
from modelopt_cli.tuning.stoppers import Stopper
from modelopt_cli.tuning.trials.trial import State

if TYPE_CHECKING:
    from modelopt_cli.tuning.trials.trial import Trial


@final
class Median(Stopper):
    """Stops a trial whose best loss is worse than the median of earlier trials' averages (Golovin et al. 2017)."""

    warmup_steps: Annotated[int, Field(ge=0)] = Field(1, description="Steps before a trial may be stopped.")
    startup_trials: Count = Field(5, description="Completed trials before any may be stopped.")
    interval: Count = Field(1, description="Steps between decisions.")

    def decide(self, trial: Trial, trials: Sequence[Trial]) -> str | None:
        """The rule above, objective by objective: stopped only when it is behind in every one."""
        return self.reason(trial, trials, ())

    @override
    def reason(self, trial: Trial, trials: Sequence[Trial], goals: Sequence[Goal]) -> str | None:
        """As `decide`, of `goals` where they are given, else of losses."""
        point = trial.curve[-1] if trial.curve else None
        if point is None or point.losses is None:
            return None
        if point.step <= self.warmup_steps or (point.step - self.warmup_steps) % self.interval:
            return None
        objectives = goals or [Goal("loss", maximize=False)] * len(point.losses)
        behind = [self._behind(trial, trials, point.step, *objective) for objective in enumerate(objectives)]
        return None if None in behind else "; ".join(text for text in behind if text)

    def _behind(self, trial: Trial, trials: Sequence[Trial], step: int, objective: int, goal: Goal) -> str | None:
        averages = [
            fmean(losses)
            for other in trials
            if other.number != trial.number and other.state is State.COMPLETED
            if (losses := _losses(other, step, objective))
        ]
        if len(averages) < self.startup_trials:
            return None
        best, middle = min(_losses(trial, step, objective)), median(averages)
        if best <= middle:
            return None
        side, own, others = ("below", -best, -middle) if goal.maximize else ("above", best, middle)
        return f"{goal.metric} {own:.4g} after step {step} is {side} the median {others:.4g} of {len(averages)} trials"


def _losses(trial: Trial, step: int, objective: int) -> list[float]:
    """The losses that the trial reported up to and including `step`."""
    return [point.losses[objective] for point in trial.curve if point.step <= step and point.losses is not None]
