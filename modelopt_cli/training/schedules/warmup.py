"""Linear warm-up before another schedule."""

from __future__ import annotations

from typing import Annotated, Any, final

from pydantic import Field, WithJsonSchema

from modelopt_cli.core.strategy import Named
from modelopt_cli.core.types import Fraction, Positive
from modelopt_cli.training.schedules import LearningRateSchedule
from modelopt_cli.training.schedules.constant import Constant

# A schedule within a schedule: its JSON Schema would contain itself.
_ANY: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "object", "required": ["type"]}]}


@final
class Warmup(LearningRateSchedule):
    """Warm-up: a linear rise over `epochs`, then another schedule over the steps that remain (Goyal et al., 2017)."""

    epochs: Positive = Field(1.0, description="Length of the rise; need not be whole.")
    start: Fraction = Field(0.0, description="Factor of the first step; 0: one step of the rise.")
    then: Annotated[LearningRateSchedule, Named("schedules"), WithJsonSchema(_ANY)] = Field(
        Constant(), description="The schedule that follows."
    )

    def remarks(self, epochs: int) -> list[str]:
        """See the base class."""
        if self.epochs < epochs:
            return self.then.remarks(max(1, epochs - int(self.epochs)))
        return [
            f"training.schedule warmup rises for {self.epochs:g} epochs, but training lasts {epochs}: it rises to the "
            "end, and nothing follows"
        ]

    def factor(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """See the base class. A first step at 0 would be wasted, so the rise starts one step above `start: 0`."""
        rise = min(round(self.epochs * steps_per_epoch), steps - 1)
        if step < rise:
            return self._rising(step, rise)
        return self.then.factor(step - rise, steps - rise, steps_per_epoch)

    def _rising(self, step: int, rise: int) -> float:
        if self.start == 0.0:
            return (step + 1) / (rise + 1)
        return self.start + (1.0 - self.start) * step / rise
