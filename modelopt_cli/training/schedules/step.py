"""Steps down at a fixed interval."""

from __future__ import annotations

from typing import final

from pydantic import Field

from modelopt_cli.core.types import Count, Positive
from modelopt_cli.training.schedules import LearningRateSchedule


@final
class Step(LearningRateSchedule):
    """Step: multiply by `gamma` every `step_size` epochs."""

    step_size: Count = Field(10, description="Epochs between two changes.")
    gamma: Positive = Field(0.1, description="What the rate is multiplied by.")

    def factor(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """See the base class."""
        return self.gamma ** (step // steps_per_epoch // self.step_size)
