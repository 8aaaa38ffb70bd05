"""Magnitude: what is small does little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from modelopt_cli.pruning.importances import WeightImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.statistics import Statistics


@final
class Magnitude(WeightImportance):
    """The weight's absolute value, |w| (Han et al., NeurIPS 2015)."""

    def contributions(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Mapping[str, Tensor]:
        """|w|."""
        from modelopt_cli.pruning.each import Each

        return Each(weights, lambda name: weights[name].detach().abs())
