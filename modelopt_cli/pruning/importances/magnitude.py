"""Importance by magnitude: what is small does little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from modelopt_cli.pruning.importances import UnitImportance, WeightImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.statistics import Statistics
    from modelopt_cli.pruning.common.units import Units


@final
class Magnitude(WeightImportance, UnitImportance):
    """The weight's absolute value, |w| (Han et al., NeurIPS 2015)."""

    def contributions(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Mapping[str, Tensor]:
        """|w|."""
        from modelopt_cli.pruning.common.lazy_tensors import LazyTensors

        return LazyTensors(weights, lambda name: weights[name].detach().abs())

    def scores(self, units: Units) -> Tensor:
        """sum |w| of each tensor that makes or takes the units, aggregated (Fang et al., CVPR 2023)."""
        return units.aggregated([rows.abs().sum(1) for rows in (*units.made, *units.taken)])
