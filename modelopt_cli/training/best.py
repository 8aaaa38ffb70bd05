"""The best epoch so far: whether to go on, and which weights to keep."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from modelopt_cli.core.conditions import Goal
from modelopt_cli.training.metrics.names import LOWER_IS_BETTER

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.training.settings import TrainingSettings


class BestState(TypedDict):
    """A BestEpoch as a training's state holds it."""

    loss: float
    epoch: int
    weights: dict[str, Tensor] | None
    fresh: bool


def goal_of(monitor: str) -> Goal:
    """`monitor` with its direction: as written (`minimize validation.cost`), else what the metric's name implies."""
    if " " in monitor.strip():
        return Goal.parse(monitor)
    return Goal(monitor, monitor.rpartition(".")[2] not in LOWER_IS_BETTER)


@dataclass
class BestEpoch:
    """What patience and `keep: best` remember. `weights` is a copy of the module's state at `epoch`."""

    loss: float = math.inf  # of the goal, lower is better
    epoch: int = 0
    weights: dict[str, Tensor] | None = None
    fresh: bool = True  # nothing to compare with yet

    def improves(self, loss: float | None, settings: TrainingSettings) -> bool:
        """True when `loss` is lower than the best one by more than `min_delta`."""
        return loss is not None and (self.fresh or loss < self.loss - settings.min_delta)

    def exhausted(self, epoch: int, settings: TrainingSettings) -> bool:
        """True when the last improvement is `patience` epochs ago."""
        return settings.patience is not None and epoch - self.epoch >= settings.patience
