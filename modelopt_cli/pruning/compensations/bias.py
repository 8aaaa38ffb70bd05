"""Bias compensation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.pruning.compensations import Compensated, Compensation
from modelopt_cli.pruning.statistics import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.statistics import Statistics


@final
class Bias(Compensation):
    """The bias takes over the mean of what goes, where the layer has one (Ye et al., ICLR 2018)."""

    needs: ClassVar[Needs] = frozenset({"input_mean"})

    def compensate(self, name: str, weight: Tensor, keep: Tensor, statistics: Statistics) -> Compensated:
        """The bias grows by the sum of w E[x] over what goes, so that the layer's mean output stays."""
        gone = weight.masked_fill(keep, 0.0)
        return Compensated(weight - gone, (gone * statistics.get("input_mean", name)).flatten(1).sum(1))
