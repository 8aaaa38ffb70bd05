"""Importance by the geometric median: filters that others can replace go first."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from modelopt_cli.pruning.importances import UnitImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.units import Units


@final
class Fpgm(UnitImportance):
    """The sum of distances to all other filters: the most replaceable go first (He et al., CVPR 2019)."""

    def scores(self, units: Units) -> Tensor:
        """sum over j of ||w_i - w_j|| of each tensor that makes units, aggregated."""
        import torch

        return units.aggregated([torch.cdist(rows.double(), rows.double()).sum(1) for rows in units.made])
