"""Compensation by the optimal brain surgeon's update, for units."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.core.types import Positive
from modelopt_cli.pruning.compensations import Compensated, UnitCompensation

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.moments import Moments


@final
class Obs(UnitCompensation):
    """Optimal brain surgeon: the best second-order update for the inputs that go (Hassibi and Stork, NeurIPS 1992)."""

    damping: Positive = Field(0.01, description="Share of the Hessian's mean diagonal that is added to it.")

    def refit(self, weight: Tensor, moments: Moments) -> Compensated:
        """W - W_R [(H^-1)_RR]^-1 (H^-1)_R:, with R what goes and H = E[x x^T] of the inputs before anything went."""
        import torch

        from modelopt_cli.pruning.common.inverse import damped, inverse

        removed = ~moments.kept
        inverted = inverse(damped(moments.gram, self.damping))
        rows = weight.double()
        step = torch.linalg.solve(inverted[removed][:, removed], inverted[removed])  # (r, n)
        return Compensated((rows - rows[:, removed] @ step)[:, moments.kept].to(weight.dtype))
