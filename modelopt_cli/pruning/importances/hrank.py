"""Importance by the rank of feature maps (HRank): those of low rank hold little."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.pruning.importances import UnitImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.units import Units, UnitStatistic


@final
class Hrank(UnitImportance):
    """The mean rank of the unit's feature map over calibration samples (Lin et al., CVPR 2020)."""

    unit_needs: ClassVar[frozenset[UnitStatistic]] = frozenset({"activation_rank"})

    def scores(self, units: Units) -> Tensor:
        """The map is what lies in a sample's last two dimensions; of a vector the rank is 1, or 0."""
        return units.statistic("activation_rank")
