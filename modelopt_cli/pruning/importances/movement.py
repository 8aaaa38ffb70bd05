"""Importance by movement: what training drives towards 0 may go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, final

from pydantic import Field

from modelopt_cli.core.types import Count
from modelopt_cli.pruning.common.statistics import Needs
from modelopt_cli.pruning.importances import WeightImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.statistics import Statistics


@final
class Movement(WeightImportance):
    """Movement: -sum w g over training steps; weights that move towards 0 go first (Sanh et al., NeurIPS 2020)."""

    needs: ClassVar[Needs] = frozenset({"movement"})
    signed: ClassVar[bool] = True

    epochs: Count = Field(1, description="Epochs of fine-tuning, by pruning.recovery, before weights first go.")

    def contributions(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Mapping[str, Tensor]:
        """-sum w g, collected since the last pruning. Weights that are gone do not come back."""
        from modelopt_cli.pruning.common.lazy_tensors import LazyTensors

        return LazyTensors(weights, lambda name: statistics.get("movement", name))
