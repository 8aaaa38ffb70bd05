"""RAdam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.training.optimizers import Optimizer
from modelopt_cli.training.optimizers import _options as options

if TYPE_CHECKING:
    import torch


@final
class RAdam(Optimizer):
    """RAdam: Adam that rectifies the variance of its first steps (Liu et al., ICLR 2020)."""

    lr: options.NonNegative = Field(0.001, description=options.LR)
    betas: options.Betas = Field((0.9, 0.999), description=options.BETAS)
    eps: options.NonNegative = Field(1e-8, description=options.EPS)
    weight_decay: options.NonNegative = Field(0.0, description=options.WEIGHT_DECAY)
    decoupled_weight_decay: bool = Field(False, description="Apply the weight decay to the weights, not the gradient.")
    foreach: bool | None = Field(None, description=options.FOREACH)

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See the base class."""
        import torch

        return torch.optim.RAdam(parameters, **self.arguments())
