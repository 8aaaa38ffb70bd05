"""Allocations: how much goes, and where. One file each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from modelopt_cli.core.strategy import Strategy

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.cuts import Cut

__all__ = ["Allocation", "Judge"]


class Judge(ABC):
    """Tries out what cutting one tensor, or one group of units, alone does."""

    @abstractmethod
    def loss(self, name: str, cut: Cut) -> float:
        """The loss when this one alone is cut like this: on validation data where there are some."""

    @abstractmethod
    def damage(self, name: str, cut: Cut) -> float:
        """How far the model's outputs are then from what they were; 0 when nothing goes."""

    def price(self, name: str) -> float:
        """What one of its scores saves; 1 where numbers alone count."""
        return 1.0


class Allocation(Strategy):
    """Base of all allocations."""

    family: ClassVar[str] = "allocations"
    measures: ClassVar[bool] = False
    """True when `cuts` needs a judge: the allocation tries out what removing costs."""
    absolute: ClassVar[bool] = False
    """True when the target is a score, not a share."""
    piecewise: ClassVar[bool] = False
    """True when pieces of a tensor may stand for it: there is one border, whatever lies where."""

    @abstractmethod
    def cuts(
        self,
        scores: Mapping[str, Tensor],
        target: float,
        judge: Judge | None = None,
        prices: Mapping[str, int] | None = None,
    ) -> dict[str, Cut]:
        """Where each tensor's scores are cut. `target`: the share of all scores to remove, 0 to 1.

        Scores may be negative; those of what is gone already are -inf, and go first. `prices`: the number of weights
        that one score of each tensor stands for, where these differ (blocks over kernels of several sizes); the scores
        are then those of one weight, and the target is a share of all weights.
        """
