"""Importance by the optimal brain surgeon: the error of a layer when the rest makes up for what goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, final

from pydantic import Field

from modelopt_cli.core.types import Positive
from modelopt_cli.pruning.common.statistics import Needs
from modelopt_cli.pruning.importances import UnitImportance, WeightImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.statistics import Statistics
    from modelopt_cli.pruning.common.units import Units


@final
class Obs(WeightImportance, UnitImportance):
    """w^2 / (2 [H^-1]_jj): the layer's output error with the best update of the rest (Dong et al., NeurIPS 2017)."""

    needs: ClassVar[Needs] = frozenset({"gram"})
    needs_consumers: ClassVar[bool] = True

    damping: Positive = Field(0.01, description="Share of the Hessian's mean diagonal that is added to it.")

    def contributions(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Mapping[str, Tensor]:
        """H = the mean of x x^T over the layer's inputs, so the error is per sample. The update is a compensation."""
        from modelopt_cli.pruning.common.inverse import damped, inverse, unseen
        from modelopt_cli.pruning.common.lazy_tensors import LazyTensors

        def score(name: str) -> Tensor:
            weight = weights[name].detach()
            gram = statistics.get("gram", name)
            diagonal = inverse(damped(gram, self.damping)).diagonal()  # (in * kernel,)
            error = weight.flatten(1).double().square() / (2.0 * diagonal)
            return error.masked_fill(unseen(gram), 0.0).to(weight.dtype).view_as(weight)

        return LazyTensors(weights, score)

    def scores(self, units: Units) -> Tensor:
        """Units go one by one, always the one whose layers then lose least, and the others make up for it.

        Without the columns U a layer loses tr(W_U [(H^-1)_UU]^-1 W_U^T) / 2 (Kurtic et al., ZipLM, NeurIPS 2023,
        sec. 3.1). The score is the loss in that order, never less than what went before.
        """
        from modelopt_cli.pruning.common.elimination import eliminated

        return eliminated(units, self.damping)
