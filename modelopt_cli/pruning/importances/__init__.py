"""Importances: how much each weight matters. One file each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from modelopt_cli.core.strategy import Strategy
from modelopt_cli.pruning.statistics import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.statistics import Statistics

__all__ = ["Importance"]


class Importance(Strategy):
    """Base of all importances. A criterion gives *contributions*, which a structure sums over what goes together."""

    family: ClassVar[str] = "importances"
    needs: ClassVar[Needs] = frozenset()
    """What must be collected first (pruning/statistics.py)."""
    signed: ClassVar[bool] = False
    """True when a negative contribution is worse than none; else its absolute value counts."""

    @abstractmethod
    def contributions(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Mapping[str, Tensor]:
        """What each weight contributes, in the weight's own shape; the lowest go first."""

    def passes(self) -> int:
        """How many times scores are computed on the way to a target, each time for an equal share of what is left."""
        return 1

    def merit(self, contribution: Tensor) -> Tensor:
        """What ranks: the contribution itself where it is signed, else its absolute value."""
        return contribution if self.signed else contribution.abs()
