"""Cosine annealing."""

from __future__ import annotations

import math
from typing import final

from pydantic import Field

from modelopt_cli.core.types import Fraction
from modelopt_cli.training.schedules import LearningRateSchedule


@final
class Cosine(LearningRateSchedule):
    """Cosine: half a cosine from the learning rate down to `end` times it (Loshchilov and Hutter, ICLR 2017)."""

    end: Fraction = Field(0.0, description="Share of the learning rate that remains at the end.")

    def factor(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """See the base class."""
        return self.end + (1.0 - self.end) * (1.0 + math.cos(math.pi * min(step / steps, 1.0))) / 2.0
