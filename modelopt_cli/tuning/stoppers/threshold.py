"""Stopping a trial that misses what it must have reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, final

from pydantic import Field, field_validator

from modelopt_cli.core.conditions import Condition
from modelopt_cli.tuning.stoppers import Stopper

if TYPE_CHECKING:
    from modelopt_cli.tuning.trials.trial import Trial


@final
class Threshold(Stopper):
    """Stops a trial that does not meet a condition on a metric it reports, such as validation.accuracy >= 0.5."""

    condition: str = Field(description="What must hold after each report, e.g. validation.loss <= 2.")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(0, description="Steps before it must hold.")

    @field_validator("condition")
    @classmethod
    def _parses(cls, text: str) -> str:
        Condition.parse(text)
        return text

    def metrics(self) -> tuple[str, ...]:
        """The condition's."""
        return (Condition.parse(self.condition).metric,)

    def decide(self, trial: Trial, trials: Sequence[Trial]) -> str | None:
        """Looks at the last report alone; one without the metric decides nothing."""
        if not trial.curve or trial.curve[-1].step <= self.warmup_steps:
            return None
        condition, metrics = Condition.parse(self.condition), trial.curve[-1].metrics
        if condition.metric not in metrics or condition.met(metrics):
            return None
        return f"{condition.metric} is {metrics[condition.metric]:.4g}, but must meet {self.condition}"
