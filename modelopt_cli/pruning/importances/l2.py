"""Importance of a unit by the Euclidean norm of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.pruning.importances import UnitImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.units import Units


@final
class L2(UnitImportance):
    """The l2 norm of the weights that make the unit: its filter, or its row (He et al., IJCAI 2018)."""

    consumers: bool = Field(
        False, description="Also look at the weights of later layers that take the unit (Fang et al., CVPR 2023)."
    )

    def scores(self, units: Units) -> Tensor:
        """||w|| of each tensor, aggregated."""
        parts = [*units.made, *units.taken] if self.consumers else units.made
        return units.aggregated([rows.norm(dim=1) for rows in parts])
