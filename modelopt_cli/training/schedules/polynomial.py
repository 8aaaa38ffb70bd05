"""Polynomial decay to zero."""

from __future__ import annotations

from typing import final

from pydantic import Field

from modelopt_cli.core.types import Positive
from modelopt_cli.training.schedules import LearningRateSchedule


@final
class Polynomial(LearningRateSchedule):
    """Polynomial: (1 - share of the training done) ** `power`, at every step."""

    power: Positive = Field(1.0, description="1 is a straight line; larger falls faster at first.")

    def factor(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """See the base class."""
        return float(max(0.0, 1.0 - step / steps) ** self.power)
