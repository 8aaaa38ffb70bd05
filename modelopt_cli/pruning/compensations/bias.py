"""Compensation by the bias, which takes over the mean of what goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.pruning.common.statistics import Needs
from modelopt_cli.pruning.compensations import Compensated, UnitCompensation, WeightCompensation

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.moments import Moments
    from modelopt_cli.pruning.common.statistics import Statistics


@final
class Bias(WeightCompensation, UnitCompensation):
    """The bias takes over the mean of what goes, where the layer has one (Ye et al., ICLR 2018)."""

    needs: ClassVar[Needs] = frozenset({"input_mean"})

    def compensate(self, name: str, weight: Tensor, keep: Tensor, statistics: Statistics) -> Compensated:
        """The bias grows by the sum of w E[x] over what goes, so that the layer's mean output stays."""
        lost = weight.masked_fill(keep, 0.0)
        return Compensated(weight - lost, (lost * statistics.get("input_mean", name)).flatten(1).sum(1))

    def refit(self, weight: Tensor, moments: Moments) -> Compensated:
        """The bias grows by W E[x] - W_K E[x~], K what stays."""
        stays = weight[:, moments.kept]
        if not moments.intercept:
            return Compensated(stays)
        change = weight.double() @ moments.mean - stays.double() @ moments.kept_mean
        return Compensated(stays, change.to(weight.dtype))
