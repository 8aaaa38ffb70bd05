"""Pruning schedules: when how much goes. One file each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from modelopt_cli.core.strategy import Strategy

__all__ = ["PruningSchedule", "Stage"]


@dataclass(frozen=True)
class Stage:
    """Pruning and the recovery after it.

    `marks`: (when, as a share of the recovery's optimizer steps from 0 to 1; how much, as a share of all that may go).
    The first mark is at 0. `rewind`: before recovery the weights that stay go back to what they were after this epoch
    of the model's own training, which is then repeated from there with its own data order, in place of a recovery.
    """

    marks: tuple[tuple[float, float], ...]
    rewind: int | None = None


class PruningSchedule(Strategy):
    """Base of all pruning schedules."""

    family: ClassVar[str] = "pruning_schedules"

    @abstractmethod
    def stages(self, amount: float | None) -> Sequence[Stage]:
        """The stages up to `amount`, the share that is gone at the end; None for an absolute threshold.

        With a threshold every mark's share is 1: it is the same from the first to the last.
        """
