"""What importances and compensations of weights ask to be collected, and where they find it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from modelopt_cli.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Statistic = Literal[
    "gradient",  # mean over the calibration samples of dL/dw; the weight's shape
    "squared_gradient",  # mean over samples of (dL_i/dw)^2: the diagonal of the empirical Fisher information
    "hessian_gradient",  # H g, with H the Hessian of the mean loss and g its gradient; the weight's shape
    "flow",  # dR/d|w| of SynFlow's R: the sum of the outputs for inputs of ones and weights |w|
    "movement",  # sum over training steps of -w dL/dw
    "input_norm",  # root mean square of the layer's inputs; shape broadcasts to the weight's: (1, in, ...)
    "input_mean",  # mean of the layer's inputs; likewise
    "gram",  # mean of x x^T over samples and positions, x the inputs of one output; (in * kernel, in * kernel)
]
Needs = frozenset[Statistic]


@dataclass
class Statistics:
    """statistic -> weight's name -> tensor."""

    values: Mapping[Statistic, Mapping[str, Tensor]] = field(default_factory=dict)

    def get(self, statistic: Statistic, name: str) -> Tensor:
        """Raises UsageError where a layer does not have it."""
        values = self.values.get(statistic, {}).get(name)
        if values is None:
            raise UsageError(
                f"{name} has no {statistic} (nothing was collected for it); leave it out with pruning.exclude, or use "
                "magnitude"
            )
        return values
