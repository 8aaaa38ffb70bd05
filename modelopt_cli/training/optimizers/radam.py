"""RAdam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.training.optimizers import Optimizer, _options

if TYPE_CHECKING:
    import torch


@final
class RAdam(Optimizer):
    """RAdam: Adam that rectifies the variance of its first steps (Liu et al., ICLR 2020)."""

    lr: _options.NonNegative = Field(0.001, description=_options.LR)
    betas: _options.Betas = Field((0.9, 0.999), description=_options.BETAS)
    eps: _options.NonNegative = Field(1e-8, description=_options.EPS)
    weight_decay: _options.NonNegative = Field(0.0, description=_options.WEIGHT_DECAY)
    decoupled_weight_decay: bool = Field(False, description="Apply the weight decay to the weights, not the gradient.")
    foreach: bool | None = Field(None, description=_options.FOREACH)

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See the base class."""
        import torch

        return torch.optim.RAdam(parameters, **self.arguments())
