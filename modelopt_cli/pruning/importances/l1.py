"""Importance of a unit by the sum of its absolute weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from modelopt_cli.pruning.importances import UnitImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.units import Units


@final
class L1(UnitImportance):
    """The l1 norm of the weights that make the unit: its filter, or its row (Li et al., ICLR 2017)."""

    def scores(self, units: Units) -> Tensor:
        """sum |w| of each tensor that makes units, aggregated."""
        return units.aggregated([rows.abs().sum(1) for rows in units.made])
