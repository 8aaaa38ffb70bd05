"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Self, final

from pydantic import Field, model_validator

from modelopt_cli.training.optimizers import Optimizer, _options

if TYPE_CHECKING:
    import torch


@final
class Adagrad(Optimizer):
    """Adagrad: steps scaled by the sum of all squared gradients (Duchi et al., JMLR 2011)."""

    lr: _options.NonNegative = Field(0.01, description=_options.LR)
    lr_decay: _options.NonNegative = Field(0.0, description="The rate is divided by 1 + lr_decay * steps.")
    weight_decay: _options.NonNegative = Field(0.0, description=_options.WEIGHT_DECAY)
    initial_accumulator_value: _options.NonNegative = Field(0.0, description="Where the sum of squares starts.")
    eps: _options.NonNegative = Field(1e-10, description=_options.EPS)
    foreach: bool | None = Field(None, description=_options.FOREACH)
    fused: bool | None = Field(None, description=_options.FUSED)

    @model_validator(mode="after")
    def _one_implementation(self) -> Self:
        return _options.one_implementation(self, self.foreach, self.fused)

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See the base class."""
        import torch

        return torch.optim.Adagrad(parameters, **self.arguments())
