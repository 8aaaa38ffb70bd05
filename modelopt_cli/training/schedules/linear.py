"""Linear change over the whole training."""

from __future__ import annotations

from typing import Annotated, final

from pydantic import Field

from modelopt_cli.training.schedules import LearningRateSchedule


@final
class Linear(LearningRateSchedule):
    """Linear: from `start` to `end` times the learning rate, in equal changes at every step."""

    start: Annotated[float, Field(ge=0.0)] = Field(1.0, description="Factor of the first step.")
    end: Annotated[float, Field(ge=0.0)] = Field(0.0, description="Factor that the step after the last would have.")

    def factor(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """See the base class."""
        return self.start + (self.end - self.start) * min(step / steps, 1.0)
