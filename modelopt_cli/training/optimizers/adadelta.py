"""Adadelta."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.core.types import Fraction
from modelopt_cli.training.optimizers import Optimizer, _options

if TYPE_CHECKING:
    import torch


@final
class Adadelta(Optimizer):
    """Adadelta: steps in the ratio of running averages of updates and gradients (Zeiler, 2012)."""

    lr: _options.NonNegative = Field(1.0, description=_options.LR)
    rho: Fraction = Field(0.9, description="Decay of the running averages of squares.")
    eps: _options.NonNegative = Field(1e-6, description=_options.EPS)
    weight_decay: _options.NonNegative = Field(0.0, description=_options.WEIGHT_DECAY)
    foreach: bool | None = Field(None, description=_options.FOREACH)

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See the base class."""
        import torch

        return torch.optim.Adadelta(parameters, **self.arguments())
