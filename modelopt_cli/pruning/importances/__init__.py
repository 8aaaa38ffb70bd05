"""Importances: how much each weight, or each unit, matters. One file each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from modelopt_cli.core.strategy import Strategy
from modelopt_cli.pruning.common.statistics import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.statistics import Statistics
    from modelopt_cli.pruning.common.units import Units, UnitStatistic

__all__ = ["Importance", "UnitImportance", "WeightImportance"]


class Importance(Strategy):
    """Base of all importances: of single weights, of units, or of both."""

    family: ClassVar[str] = "importances"


class WeightImportance(Importance):
    """Base of those that give *contributions* of weights, which a structure sums over what goes together."""

    needs: ClassVar[Needs] = frozenset()
    """What must be collected first (pruning/common/statistics.py)."""
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


class UnitImportance(Importance):
    """Base of those that score the units of a group: neurons, channels, heads, hidden units."""

    unit_needs: ClassVar[frozenset[UnitStatistic]] = frozenset()
    """What must be collected first (pruning/common/units.py)."""
    needs_consumers: ClassVar[bool] = False
    """True when it looks at the moments of what later layers take in."""

    @abstractmethod
    def scores(self, units: Units) -> Tensor:
        """(n,) how much each unit matters; the lowest go first."""

    def hessian_probes(self) -> int:
        """How many random vectors `hessian_trace` is estimated with, where it is needed."""
        return 1
