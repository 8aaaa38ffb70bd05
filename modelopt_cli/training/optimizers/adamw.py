"""Adam with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Self, final

from pydantic import Field, model_validator

from modelopt_cli.training.optimizers import Optimizer, _options

if TYPE_CHECKING:
    import torch


@final
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""

    lr: _options.NonNegative = Field(0.001, description=_options.LR)
    betas: _options.Betas = Field((0.9, 0.999), description=_options.BETAS)
    eps: _options.NonNegative = Field(1e-8, description=_options.EPS)
    weight_decay: _options.NonNegative = Field(0.01, description=_options.DECOUPLED)
    amsgrad: bool = Field(False, description="Use the largest second moment so far (Reddi et al., ICLR 2018).")
    foreach: bool | None = Field(None, description=_options.FOREACH)
    fused: bool | None = Field(None, description=_options.FUSED)

    @model_validator(mode="after")
    def _one_implementation(self) -> Self:
        return _options.one_implementation(self, self.foreach, self.fused)

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See the base class."""
        import torch

        return torch.optim.AdamW(parameters, **self.arguments())
