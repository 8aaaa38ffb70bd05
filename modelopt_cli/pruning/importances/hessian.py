"""Importance of units by the trace of the loss's Hessian over their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from pydantic import Field

from modelopt_cli.core.types import Count
from modelopt_cli.pruning.importances import UnitImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.units import Units, UnitStatistic


@final
class Hessian(UnitImportance):
    """tr(H) / (2 p) ||w||^2 of the p weights that make the unit, H the loss's Hessian (Yu et al., WACV 2022)."""

    unit_needs: ClassVar[frozenset[UnitStatistic]] = frozenset({"hessian_trace"})

    probes: Count = Field(8, description="Random vectors in the estimate of the trace (Hutchinson), each a pass back.")

    def scores(self, units: Units) -> Tensor:
        """The trace is an estimate, and may be negative where the loss is not convex. Over all tensors of a unit."""
        import torch

        weights = torch.cat([rows.double() for rows in units.made], 1) if units.made else units.aggregated([])
        trace = units.statistic("hessian_trace")
        return trace / (2 * weights.shape[1]) * weights.square().sum(1)

    def hessian_probes(self) -> int:
        """`probes`."""
        return self.probes
