"""Importance by synaptic flow (SynFlow), which needs no data."""

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
class Synflow(WeightImportance):
    """SynFlow: |w| dR/d|w|, the flow through each weight, without data, in iterations (Tanaka et al., NeurIPS 2020)."""

    needs: ClassVar[Needs] = frozenset({"flow"})

    iterations: Count = Field(100, description="Steps, of equal shares of what is left, on the way to the target.")

    def contributions(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Mapping[str, Tensor]:
        """|w| dR/d|w|; R is the sum of the outputs for inputs of ones and weights |w| (eq. 2)."""
        from modelopt_cli.pruning.common.lazy_tensors import LazyTensors

        return LazyTensors(weights, lambda name: weights[name].detach().abs() * statistics.get("flow", name))

    def passes(self) -> int:
        """`iterations`: computed once, SynFlow can cut a layer through; hence the steps (algorithm 1)."""
        return self.iterations
