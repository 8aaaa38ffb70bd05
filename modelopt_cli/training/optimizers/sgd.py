"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Self, final

from pydantic import Field, model_validator

from modelopt_cli.training.optimizers import Optimizer, _options

if TYPE_CHECKING:
    import torch


@final
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum on request (Sutskever et al., ICML 2013)."""

    lr: _options.NonNegative = Field(0.001, description=_options.LR)
    momentum: _options.NonNegative = Field(0.0, description="Decay of the running sum of gradients.")
    dampening: float = Field(0.0, description="Share of a new gradient that the running sum leaves out.")
    weight_decay: _options.NonNegative = Field(0.0, description=_options.WEIGHT_DECAY)
    nesterov: bool = Field(False, description="Look ahead along the momentum; needs momentum, no dampening.")
    foreach: bool | None = Field(None, description=_options.FOREACH)
    fused: bool | None = Field(None, description=_options.FUSED)

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and (self.momentum <= 0 or self.dampening != 0):
            raise ValueError(
                f"nesterov is true with momentum {self.momentum:g} and dampening {self.dampening:g}, "
                "but it needs a momentum above 0 and no dampening; set momentum: 0.9"
            )
        return _options.one_implementation(self, self.foreach, self.fused)

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See the base class."""
        import torch

        return torch.optim.SGD(parameters, **self.arguments())
