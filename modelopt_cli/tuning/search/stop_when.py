"""The `tuning.stop_when` section: when a whole search has seen enough.

A rule looks at the ended trials alone, in order of their numbers, so a search that is resumed ends where it would have
ended. Once one holds no trial is begun any more; those under way are finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, field_validator, model_validator

from modelopt_cli.core.conditions import Condition, Goal
from modelopt_cli.core.strategy import Settings
from modelopt_cli.core.types import Count, Positive
from modelopt_cli.tuning.trials import ranking

if TYPE_CHECKING:
    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Trial

_EVERY = 5  # ended trials between looks at the regret, each of which fits a process


class StopWhen(Settings):
    """When the search ends before its last trial: at the first rule that holds."""

    no_improvement: Count | None = Field(None, description="After so many trials in a row without a better best one.")
    min_delta: Annotated[float, Field(ge=0.0)] = Field(
        0.0, description="What a better one must be better by, in the objective's unit."
    )
    regret_below: Positive | None = Field(
        None, description="When less than this is left to gain, by an upper bound (Makarova et al. 2022)."
    )
    target: float | str | None = Field(
        None, description="When the best trial has reached it: a value of the objective, or a condition on a metric."
    )

    @field_validator("target")
    @classmethod
    def _target_parses(cls, target: float | str | None) -> float | str | None:
        if isinstance(target, str) and Condition.parse(target).metric.startswith("test."):
            raise ValueError(f"the target '{target}' looks at the test split; use validation instead")
        return target

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if self.no_improvement is None and self.regret_below is None and self.target is None:
            raise ValueError("stop_when has no rule; write no_improvement, regret_below or target, or leave it out")
        if self.min_delta and self.no_improvement is None:
            raise ValueError(f"min_delta is {self.min_delta}, but belongs to no_improvement; write that too")
        return self

    def problem(self, objectives: int) -> str | None:
        """Why the rules do not fit a search of so many objectives, with the remedy; None when they do."""
        if objectives > 1 and self.regret_below is not None:
            return (
                f"stop_when.regret_below is about one objective, but there are {objectives}; "
                "write no_improvement, which counts trials since the front changed"
            )
        if objectives > 1 and isinstance(self.target, float):
            return (
                f"stop_when.target is {self.target:g}, but there are {objectives} objectives; "
                "write a condition, e.g. validation.accuracy >= 0.98"
            )
        return None

    def metrics(self) -> list[str]:
        """Metrics beside the objectives that the rules look at."""
        return [Condition.parse(self.target).metric] if isinstance(self.target, str) else []

    def verdict(self, space: Space, trials: Sequence[Trial], goals: Sequence[Goal]) -> str:
        """The rule that holds, with its figure, in one line; empty: the search goes on."""
        ended = [trial for trial in trials if trial.state.finished]
        return self._reached(ended, goals) or self._stale(ended) or self._exhausted(space, ended)

    def _reached(self, ended: Sequence[Trial], goals: Sequence[Goal]) -> str:
        if self.target is None:
            return ""
        sign = ">=" if goals[0].maximize else "<="
        text = self.target if isinstance(self.target, str) else f"{goals[0].metric} {sign} {float(self.target)!r}"
        condition = Condition.parse(text)
        for trial in ranking.front(ended):
            if trial.violation == 0 and condition.met(trial.metrics):
                value = trial.metrics[condition.metric]
                return f"stop_when.target: {condition.metric} is {value:.6g} in trial {trial.number} ({condition})"
        return ""

    def _stale(self, ended: Sequence[Trial]) -> str:
        if self.no_improvement is None:
            return ""
        last = last_improvement(ended, self.min_delta)
        since = 0 if last is None else len(ended) - 1 - last
        if last is None or since < self.no_improvement:
            return ""
        several = len(ended[last].losses or ()) > 1
        what = "new point on the front" if several else "better best trial"
        by = f" by more than {self.min_delta:g}" if self.min_delta else ""
        return f"stop_when.no_improvement: {since} trials without a {what}{by} since trial {ended[last].number}"

    def _exhausted(self, space: Space, ended: Sequence[Trial]) -> str:
        if self.regret_below is None or len(ended) % _EVERY:
            return ""
        from modelopt_cli.tuning.analysis.regret import regret_bound

        bound = regret_bound(space, ended)
        if bound is None or bound >= self.regret_below:
            return ""
        return (
            f"stop_when.regret_below: after {len(ended)} trials at most {bound:.3g} is left to gain, "
            f"by the process of their losses (below {self.regret_below:g})"
        )


def last_improvement(ended: Sequence[Trial], delta: float) -> int | None:
    """Index of the last trial that was better than all before it, by more than `delta`; None: none has a loss.

    Less violation is better; of several objectives, one not reached by any trial before it counts, others alike.
    """
    last, violation = None, float("inf")
    front: list[tuple[float, ...]] = []
    for index, trial in enumerate(ended):
        if trial.losses is None or trial.violation > violation:
            continue
        if trial.violation < violation or last is None:
            front, violation = [], trial.violation
        own = trial.losses
        if all(any(a - delta > b for a, b in zip(other, own, strict=True)) for other in front):
            front.append(own)
            last = index
    return last
