"""Averaged stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.training.optimizers import Optimizer, _options

if TYPE_CHECKING:
    import torch


@final
class ASGD(Optimizer):
    """Averaged stochastic gradient descent (Polyak and Juditsky, 1992)."""

    lr: _options.NonNegative = Field(0.01, description=_options.LR)
    lambd: float = Field(0.0001, description="Decay term of the step size and the weights.")
    alpha: float = Field(0.75, description="Power of the step size's decay.")
    t0: float = Field(1000000.0, description="Step at which averaging starts.")
    weight_decay: _options.NonNegative = Field(0.0, description=_options.WEIGHT_DECAY)
    foreach: bool | None = Field(None, description=_options.FOREACH)

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See the base class."""
        import torch

        return torch.optim.ASGD(parameters, **self.arguments())
