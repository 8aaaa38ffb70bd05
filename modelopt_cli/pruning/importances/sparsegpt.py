"""Importance by SparseGPT's criterion: as obs, when only later inputs make up for what goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, final

from pydantic import Field

from modelopt_cli.core.types import Positive
from modelopt_cli.pruning.common.statistics import Needs
from modelopt_cli.pruning.importances import WeightImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.statistics import Statistics


@final
class Sparsegpt(WeightImportance):
    """w^2 / [U_jj]^2, U the Cholesky factor of H^-1: as obs, when only later inputs make up for it (Frantar 2023)."""

    needs: ClassVar[Needs] = frozenset({"gram"})

    damping: Positive = Field(0.01, description="Share of the Hessian's mean diagonal that is added to it.")

    def contributions(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Mapping[str, Tensor]:
        """Frantar and Alistarh, ICML 2023, sec. 3.3, with masks chosen before any update (the compensation follows)."""
        from modelopt_cli.pruning.common.inverse import damped, unseen, upper_factor
        from modelopt_cli.pruning.common.lazy_tensors import LazyTensors

        def score(name: str) -> Tensor:
            weight = weights[name].detach()
            gram = statistics.get("gram", name)
            diagonal = upper_factor(damped(gram, self.damping)).diagonal()  # (in * kernel,)
            error = (weight.flatten(1).double() / diagonal).square()
            return error.masked_fill(unseen(gram), 0.0).to(weight.dtype).view_as(weight)

        return LazyTensors(weights, score)
