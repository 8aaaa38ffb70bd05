"""Stopping a trial whose folds are, pair by pair, worse than the best trial's."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

from pydantic import Field
from typing_extensions import override

from modelopt_cli.tuning.stoppers import Stopper
from modelopt_cli.tuning.trials.trial import State

if TYPE_CHECKING:
    from modelopt_cli.core.conditions import Goal
    from modelopt_cli.tuning.trials.trial import Trial


@final
class Wilcoxon(Stopper):
    """Stops a trial that the signed-rank test (Wilcoxon 1945) finds worse, fold by fold, than the best complete one.

    For steps that are folds or repeats, the same ones in every trial: `evaluation.cv`, or a script that reports so.
    """

    sizes: ClassVar[bool] = False

    p: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.1, description="Stopped below this p-value, one-sided.")
    min_steps: int = Field(4, ge=2, description="Folds before a trial may be stopped; below 4 no p-value is under 0.1.")
    reports: Literal["means", "values"] = Field(
        "means",
        description="What a report tells: the mean over the folds so far (as cv does), or that fold's own value.",
    )

    def decide(self, trial: Trial, trials: Sequence[Trial]) -> str | None:
        """With several objectives, stopped only when it is worse in each, the best being best in that one."""
        return self.reason(trial, trials, ())

    @override
    def reason(self, trial: Trial, trials: Sequence[Trial], goals: Sequence[Goal]) -> str | None:
        """As `decide`, each of several `goals` by its name."""
        steps = len(trial.curve)
        if steps < self.min_steps or trial.curve[-1].losses is None:
            return None
        reasons = [self._worse(trial, trials, objective) for objective in range(len(trial.curve[-1].losses))]
        if None in reasons:
            return None
        names = [f"{goal.metric} " for goal in goals] if len(goals) > 1 else [""] * len(reasons)
        return "; ".join(f"{name}{text}" for name, text in zip(names, reasons, strict=True))

    def _worse(self, trial: Trial, trials: Sequence[Trial], objective: int) -> str | None:
        complete = {
            other.number: folds
            for other in trials
            if other.state is State.COMPLETED and other.number != trial.number
            if (folds := self._folds(other, objective))
        }
        if not complete:
            return None
        best = min(complete, key=lambda number: fmean(complete[number].values()))
        own, others = self._folds(trial, objective), complete[best]
        gaps = [own[step] - others[step] for step in own if step in others]
        if len(gaps) < self.min_steps or not any(gaps) or sum(gaps) <= 0:
            return None
        from scipy.stats import wilcoxon

        p = float(wilcoxon(gaps, alternative="greater").pvalue)
        if p >= self.p:
            return None
        return f"worse than trial {best} on {len(gaps)} folds (Wilcoxon's p = {p:.3g})"

    def _folds(self, trial: Trial, objective: int) -> dict[int, float]:
        """Step -> the loss of that fold."""
        reported = {point.step: point.losses[objective] for point in trial.curve if point.losses is not None}
        if self.reports == "values":
            return reported
        means = {0: 0.0, **reported}
        return {
            step: step * mean - (step - 1) * means[step - 1] for step, mean in reported.items() if step - 1 in means
        }
