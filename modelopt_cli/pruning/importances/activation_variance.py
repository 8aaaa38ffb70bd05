"""Importance by variance: a unit that hardly changes can become a part of the next bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.pruning.importances import UnitImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.units import Units, UnitStatistic


@final
class ActivationVariance(UnitImportance):
    """The variance of the unit's activity over samples and positions (Polyak and Wolf, IEEE Access 2015)."""

    unit_needs: ClassVar[frozenset[UnitStatistic]] = frozenset({"activation_variance"})

    def scores(self, units: Units) -> Tensor:
        """E[a^2] - E[a]^2. The mean that goes with a unit is what `bias` compensates."""
        return units.statistic("activation_variance")
