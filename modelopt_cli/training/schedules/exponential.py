"""Exponential decay."""

from __future__ import annotations

from typing import final

from pydantic import Field

from modelopt_cli.core.types import Positive
from modelopt_cli.training.schedules import LearningRateSchedule


@final
class Exponential(LearningRateSchedule):
    """Exponential: multiply by `gamma` after every epoch."""

    gamma: Positive = Field(0.95, description="What the rate is multiplied by.")

    def factor(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """See the base class."""
        return self.gamma ** (step // steps_per_epoch)
