"""Adam for sparse gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.core.types import Positive
from modelopt_cli.training.optimizers import Optimizer, _options

if TYPE_CHECKING:
    import torch


@final
class SparseAdam(Optimizer):
    """Adam for sparse gradients, such as those of nn.Embedding(sparse=True): updates only the rows seen."""

    lr: Positive = Field(0.001, description=_options.LR)
    betas: _options.Betas = Field((0.9, 0.999), description=_options.BETAS)
    eps: Positive = Field(1e-8, description=_options.EPS)

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See the base class."""
        import torch

        return torch.optim.SparseAdam(parameters, **self.arguments())
