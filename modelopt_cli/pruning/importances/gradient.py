"""Importance by the gradient: what the loss hardly feels may go."""

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
class Gradient(WeightImportance, UnitImportance):
    """The absolute gradient of the loss, |g|, over the calibration samples (Mozer and Smolensky, NeurIPS 1988)."""

    needs: ClassVar[Needs] = frozenset({"gradient"})
    unit_needs: ClassVar[frozenset[UnitStatistic]] = frozenset({"activation_gradient"})

    def contributions(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Mapping[str, Tensor]:
        """g."""
        from modelopt_cli.pruning.common.lazy_tensors import LazyTensors

        return LazyTensors(weights, lambda name: statistics.get("gradient", name))

    def scores(self, units: Units) -> Tensor:
        """Mean over samples and positions of |dL/da|, a the unit's activity."""
        return units.statistic("activation_gradient")
