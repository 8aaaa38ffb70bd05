"""What importances see of a group of units: the rows of the weights that each unit touches, and what was collected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from modelopt_cli.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Aggregate = Literal["sum", "mean", "max"]

UnitStatistic = Literal[
    "activation_mean",  # mean over samples and positions of |a|
    "activation_nonzero",  # share of samples and positions where a is not 0: 1 - APoZ
    "activation_variance",  # over samples and positions
    "activation_rank",  # mean over samples of the rank of the unit's map
    "activation_gradient",  # mean over samples and positions of |dL/da|, L the sum of the samples' losses
    "gate_gradient",  # mean over samples of |dL_i/dm|, m a factor of the unit's activation, 1 as it is
    "squared_gate_gradient",  # mean over samples of (dL_i/dm)^2
    "hessian_trace",  # Hutchinson's estimate of the trace of the mean loss's Hessian over the weights that make a unit
]
"""Each is (n,), one number a unit; `a` is what later layers take of it, whatever its other dimensions."""


@dataclass(frozen=True)
class Consumer:
    """A layer that takes the units: its matrix, the second moments of its inputs, the columns that each unit has."""

    matrix: Tensor  # (out, in)
    gram: Tensor  # (in, in) float64, E[x x^T] over samples and positions
    columns: Tensor  # (n, c)


@dataclass(frozen=True)
class Units:
    """The n units of one group."""

    name: str
    size: int
    made: Sequence[Tensor]  # (n, k) rows of each weight matrix or kernel that makes the units
    taken: Sequence[Tensor]  # (n, k) rows of each that takes them
    scales: Sequence[Tensor]  # (n, k) of each normalization that the units go through, k most often 1
    aggregate: Aggregate = "sum"
    statistics: Mapping[UnitStatistic, Tensor] = field(default_factory=dict)
    consumers: Sequence[Consumer] = ()  # where the importance asks for them

    def statistic(self, name: UnitStatistic) -> Tensor:
        """(n,) what was collected. Raises UsageError where the group has it not."""
        values = self.statistics.get(name)
        if values is None:
            raise UsageError(
                f"the units of {self.name} have no {name}: what runs through them lies inside an operator, such as a "
                "recurrent layer; leave them out with pruning.exclude, or use an importance on weights, such as l2"
            )
        return values

    def aggregated(self, parts: Sequence[Tensor]) -> Tensor:
        """(n,) from a score for each of the tensors that a unit touches."""
        import torch

        if not parts:
            raise UsageError(
                f"the units of {self.name} touch nothing that this importance looks at; leave them out with "
                "pruning.exclude, or use another importance"
            )
        stacked = torch.stack(list(parts))  # (tensors, n)
        if self.aggregate == "max":
            return stacked.amax(0)
        return stacked.sum(0) if self.aggregate == "sum" else stacked.mean(0)
