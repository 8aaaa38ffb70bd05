"""Importance by a first-order Taylor expansion: what the loss changes by when a weight becomes 0."""

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
class Taylor(WeightImportance, UnitImportance):
    """First-order change of the loss, |w g| (Molchanov et al., CVPR 2019, eq. 8; of a group: |sum w g|)."""

    needs: ClassVar[Needs] = frozenset({"gradient"})
    unit_needs: ClassVar[frozenset[UnitStatistic]] = frozenset({"gate_gradient"})

    def contributions(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Mapping[str, Tensor]:
        """w g, signed: over a group the changes of its weights may cancel."""
        from modelopt_cli.pruning.common.lazy_tensors import LazyTensors

        return LazyTensors(weights, lambda name: weights[name].detach() * statistics.get("gradient", name))

    def scores(self, units: Units) -> Tensor:
        """Mean over samples of |dL_i/dm|, m the unit's gate: |sum of a dL/da| (Molchanov et al., ICLR 2017)."""
        return units.statistic("gate_gradient")
