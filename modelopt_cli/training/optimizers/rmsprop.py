"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.training.optimizers import Optimizer, _options

if TYPE_CHECKING:
    import torch


@final
class RMSprop(Optimizer):
    """RMSprop: steps scaled by a running average of the squared gradient (Hinton, 2012)."""

    lr: _options.NonNegative = Field(0.01, description=_options.LR)
    alpha: _options.NonNegative = Field(0.99, description="Decay of the running average of squares.")
    eps: _options.NonNegative = Field(1e-8, description=_options.EPS)
    weight_decay: _options.NonNegative = Field(0.0, description=_options.WEIGHT_DECAY)
    momentum: _options.NonNegative = Field(0.0, description="Decay of the running sum of scaled gradients.")
    centered: bool = Field(False, description="Divide by the variance, not the second moment (Graves, 2013).")
    foreach: bool | None = Field(None, description=_options.FOREACH)

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See the base class."""
        import torch

        return torch.optim.RMSprop(parameters, **self.arguments())
