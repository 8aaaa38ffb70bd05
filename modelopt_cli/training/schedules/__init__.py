"""Learning-rate schedules. One file each."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from modelopt_cli.core.strategy import Strategy

__all__ = ["LearningRateSchedule"]


class LearningRateSchedule(Strategy):
    """Base of all schedules."""

    family: ClassVar[str] = "schedules"

    @abstractmethod
    def factor(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """What the optimizer's base learning rate is multiplied by in optimizer step `step` of `steps` (from 0)."""

    def remarks(self, epochs: int) -> list[str]:
        """What of its options a training of so many epochs never comes to."""
        return []
