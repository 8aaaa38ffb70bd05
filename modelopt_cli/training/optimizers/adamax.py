"""Adamax."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.training.optimizers import Optimizer
from modelopt_cli.training.optimizers import _options as options

if TYPE_CHECKING:
    import torch


@final
class Adamax(Optimizer):
    """Adamax: Adam with the infinity norm in place of the second moment (Kingma and Ba, ICLR 2015)."""

    lr: options.NonNegative = Field(0.002, description=options.LR)
    betas: options.Betas = Field((0.9, 0.999), description=options.BETAS)
    eps: options.NonNegative = Field(1e-8, description=options.EPS)
    weight_decay: options.NonNegative = Field(0.0, description=options.WEIGHT_DECAY)
    foreach: bool | None = Field(None, description=options.FOREACH)

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See the base class."""
        import torch

        return torch.optim.Adamax(parameters, **self.arguments())
