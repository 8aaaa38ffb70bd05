"""Importance by activity: units that are hardly ever active may go."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.pruning.importances import UnitImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.units import Units, UnitStatistic


@final
class ActivationMean(UnitImportance):
    """The unit's mean activity, |a| over calibration samples and positions (Molchanov et al., ICLR 2017, sec. 2.2)."""

    unit_needs: ClassVar[frozenset[UnitStatistic]] = frozenset({"activation_mean"})

    def scores(self, units: Units) -> Tensor:
        """mean |a|: what a threshold compares with."""
        return units.statistic("activation_mean")
