"""Importance by weights and activations (Wanda): a weight times the norm of its input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.pruning.common.statistics import Needs
from modelopt_cli.pruning.importances import WeightImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.statistics import Statistics


@final
class Wanda(WeightImportance):
    """Wanda: |w| times the root mean square of its input (Sun et al., ICLR 2024, eq. 1; made for uniform shares)."""

    needs: ClassVar[Needs] = frozenset({"input_norm"})

    def contributions(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Mapping[str, Tensor]:
        """|w| ||x||, without the paper's factor sqrt(samples), equal for all weights."""
        from modelopt_cli.pruning.common.lazy_tensors import LazyTensors

        return LazyTensors(weights, lambda name: weights[name].detach().abs() * statistics.get("input_norm", name))
