"""The constant schedule."""

from __future__ import annotations

from typing import final

from modelopt_cli.training.schedules import LearningRateSchedule


@final
class Constant(LearningRateSchedule):
    """Constant: the learning rate stays as it is."""

    def factor(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """See the base class."""
        return 1.0
