"""Importance by the average percentage of zeros in what a unit gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.pruning.importances import UnitImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.units import Units, UnitStatistic


@final
class Apoz(UnitImportance):
    """1 - APoZ: the share of samples and positions in which the unit is not zero (Hu et al., 2016)."""

    unit_needs: ClassVar[frozenset[UnitStatistic]] = frozenset({"activation_nonzero"})

    def scores(self, units: Units) -> Tensor:
        """1 - APoZ, so that those with most zeros go first. Made for ReLU: others are hardly ever 0."""
        return units.statistic("activation_nonzero")
