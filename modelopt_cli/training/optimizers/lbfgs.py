"""Limited-memory BFGS."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal, final

from pydantic import Field

from modelopt_cli.core.types import Count
from modelopt_cli.training.optimizers import Optimizer, _options

if TYPE_CHECKING:
    import torch


@final
class LBFGS(Optimizer):
    """Limited-memory BFGS: a quasi-Newton method, for full batches (Liu and Nocedal, 1989)."""

    closure: ClassVar[bool] = True

    lr: _options.NonNegative = Field(1.0, description=_options.LR)
    max_iter: Count = Field(20, description="Iterations in one step.")
    max_eval: Count | None = Field(None, description="Evaluations of the loss in one step; null: 1.25 * max_iter.")
    tolerance_grad: _options.NonNegative = Field(
        1e-7, description="A step ends when the gradient's largest entry is below."
    )
    tolerance_change: _options.NonNegative = Field(1e-9, description="A step ends when weights or loss change by less.")
    history_size: Count = Field(100, description="Updates that the curvature is estimated from.")
    line_search_fn: Literal["strong_wolfe"] | None = Field(None, description="How the step length is found; null: lr.")

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See the base class."""
        import torch

        return torch.optim.LBFGS(parameters, **self.arguments())
