"""Resilient backpropagation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Self, final

from pydantic import Field, model_validator

from modelopt_cli.training.optimizers import Optimizer, _options

if TYPE_CHECKING:
    import torch


@final
class Rprop(Optimizer):
    """Resilient backpropagation: steps from the gradient's signs alone (Riedmiller and Braun, 1993)."""

    lr: _options.NonNegative = Field(0.01, description=_options.LR)
    etas: _options.Pair = Field(
        (0.5, 1.2), description="Factors of the step size when a sign turns, and when it stays."
    )
    step_sizes: _options.Pair = Field((1e-6, 50.0), description="Smallest and largest step size.")
    foreach: bool | None = Field(None, description=_options.FOREACH)

    @model_validator(mode="after")
    def _etas_shrink_and_grow(self) -> Self:
        if not 0.0 < self.etas[0] < 1.0 < self.etas[1]:
            raise ValueError(
                f"etas is {list(self.etas)}, but the first must lie between 0 and 1 and the second above 1; "
                "the default is [0.5, 1.2]"
            )
        return self

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See the base class."""
        import torch

        return torch.optim.Rprop(parameters, **self.arguments())
