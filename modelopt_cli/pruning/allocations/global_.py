"""One ranking over all tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.core.types import Fraction
from modelopt_cli.pruning.allocations import Allocation

if TYPE_CHECKING:
    from torch import Tensor


@final
class Global(Allocation):
    """The lowest scores of all tensors together go."""

    amount: Fraction = Field(description="Share of all weights to remove, 0 to 1.")

    def keep(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Exactly round(amount * n) of all n scores go; among equal ones the first tensor's first."""
        import torch

        from modelopt_cli.pruning.allocations._lowest import lowest

        if not scores:
            return {}
        whole = torch.cat([score.reshape(-1).float() for score in scores.values()])
        kept = ~lowest(whole, round(self.amount * whole.numel()))
        parts = torch.split(kept, [score.numel() for score in scores.values()])
        return {name: part.view(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}
