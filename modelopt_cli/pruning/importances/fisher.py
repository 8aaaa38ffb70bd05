"""Importance by optimal brain damage, with the Fisher information for the Hessian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.pruning.common.statistics import Needs
from modelopt_cli.pruning.importances import UnitImportance, WeightImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.statistics import Statistics
    from modelopt_cli.pruning.common.units import Units, UnitStatistic


@final
class Fisher(WeightImportance, UnitImportance):
    """Second-order change of the loss, w^2 F / 2, F the diagonal Fisher information (LeCun et al., NeurIPS 1989)."""

    needs: ClassVar[Needs] = frozenset({"squared_gradient"})
    unit_needs: ClassVar[frozenset[UnitStatistic]] = frozenset({"squared_gate_gradient"})

    def contributions(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Mapping[str, Tensor]:
        """w^2 F / 2."""
        from modelopt_cli.pruning.common.lazy_tensors import LazyTensors

        return LazyTensors(
            weights, lambda name: weights[name].detach().square() * statistics.get("squared_gradient", name) / 2.0
        )

    def scores(self, units: Units) -> Tensor:
        """E[(dL_i/dm)^2] / 2, m the gate that all layers share which take the unit (Liu et al., ICML 2021)."""
        return units.statistic("squared_gate_gradient") / 2.0
