"""No compensation."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from modelopt_cli.pruning.compensations import Compensated, Compensation

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.statistics import Statistics


@final
class NoCompensation(Compensation):
    """None: what stays is left as it is."""

    def compensate(self, name: str, weight: Tensor, keep: Tensor, statistics: Statistics) -> Compensated:
        """The masked weight."""
        return Compensated(weight.masked_fill(~keep, 0.0))
