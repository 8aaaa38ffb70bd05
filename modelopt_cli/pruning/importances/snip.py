"""Importance by connection sensitivity (SNIP), for untrained models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.pruning.common.statistics import Needs
from modelopt_cli.pruning.importances import WeightImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.statistics import Statistics


@final
class Snip(WeightImportance):
    """SNIP: |w g| as a share of its sum over all weights, made for untrained models (Lee et al., ICLR 2019, eq. 6)."""

    needs: ClassVar[Needs] = frozenset({"gradient"})

    def contributions(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Mapping[str, Tensor]:
        """|w g| / sum |w g|: never negative, so over a group nothing cancels."""
        from modelopt_cli.pruning.common.lazy_tensors import LazyTensors

        total = sum(
            float((weight.detach() * statistics.get("gradient", name)).abs().sum()) for name, weight in weights.items()
        )
        return LazyTensors(
            weights, lambda name: (weights[name].detach() * statistics.get("gradient", name)).abs() / max(total, 1e-38)
        )
