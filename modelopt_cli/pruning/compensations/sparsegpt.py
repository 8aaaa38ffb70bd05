"""Compensation by SparseGPT's update, input by input for all outputs at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from pydantic import Field

from modelopt_cli.core.types import Positive
from modelopt_cli.pruning.common.statistics import Needs
from modelopt_cli.pruning.compensations import Compensated, WeightCompensation

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.statistics import Statistics


@final
class Sparsegpt(WeightCompensation):
    """The optimal brain surgeon's update, input by input for all outputs at once (Frantar and Alistarh, ICML 2023)."""

    needs: ClassVar[Needs] = frozenset({"gram"})

    damping: Positive = Field(0.01, description="Share of the Hessian's mean diagonal that is added to it.")

    def compensate(self, name: str, weight: Tensor, keep: Tensor, statistics: Statistics) -> Compensated:
        """Going through the inputs j, what goes there is made up for by the inputs after it (sec. 3.2, eq. 3)."""
        from modelopt_cli.pruning.common.inverse import damped, upper_factor

        factor = upper_factor(damped(statistics.get("gram", name), self.damping))  # (n, n)
        rows, masks = weight.flatten(1).double().clone(), keep.flatten(1)
        for column in range(rows.shape[1]):
            error = rows[:, column].masked_fill(masks[:, column], 0.0) / factor[column, column]  # (out,)
            rows[:, column:] -= error[:, None] * factor[column, column:]
        return Compensated(rows.masked_fill(~masks, 0.0).to(weight.dtype).view_as(weight))
