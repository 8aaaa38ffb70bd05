"""No compensation: what stays is left as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.pruning.compensations import Compensated, UnitCompensation, WeightCompensation

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.moments import Moments
    from modelopt_cli.pruning.common.statistics import Statistics


@final
class NoCompensation(WeightCompensation, UnitCompensation):
    """None: what stays is left as it is."""

    fits: ClassVar[bool] = False

    def compensate(self, name: str, weight: Tensor, keep: Tensor, statistics: Statistics) -> Compensated:
        """The masked weight."""
        return Compensated(weight.masked_fill(~keep, 0.0))

    def refit(self, weight: Tensor, moments: Moments) -> Compensated:
        """What stays of the weight."""
        return Compensated(weight[:, moments.kept])
