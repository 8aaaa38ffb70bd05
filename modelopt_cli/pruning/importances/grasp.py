"""Importance by gradient signal preservation (GraSP), for untrained models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.pruning.common.statistics import Needs
from modelopt_cli.pruning.importances import WeightImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.statistics import Statistics


@final
class Grasp(WeightImportance):
    """GraSP: w H g; the first to go let the gradient's norm grow, for untrained models (Wang et al., ICLR 2020)."""

    needs: ClassVar[Needs] = frozenset({"hessian_gradient"})
    signed: ClassVar[bool] = True

    def contributions(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Mapping[str, Tensor]:
        """w H g, the paper's score -w H g (eq. 8) with its sign changed, since there the highest go."""
        from modelopt_cli.pruning.common.lazy_tensors import LazyTensors

        return LazyTensors(weights, lambda name: weights[name].detach() * statistics.get("hessian_gradient", name))
