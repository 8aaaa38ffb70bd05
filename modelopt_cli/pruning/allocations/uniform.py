"""The same share everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.core.types import Fraction
from modelopt_cli.pruning.allocations import Allocation

if TYPE_CHECKING:
    from torch import Tensor


@final
class Uniform(Allocation):
    """The same share of every tensor goes."""

    amount: Fraction = Field(description="Share of each tensor's weights to remove, 0 to 1.")

    def keep(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Exactly round(amount * n) of each tensor's n scores go; among equal ones the first in memory order."""
        from modelopt_cli.pruning.allocations._lowest import lowest

        return {name: ~lowest(score, round(self.amount * score.numel())) for name, score in scores.items()}
