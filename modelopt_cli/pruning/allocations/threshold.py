"""An absolute threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.pruning.allocations import Allocation

if TYPE_CHECKING:
    from torch import Tensor


@final
class Threshold(Allocation):
    """Everything whose score is below `value` goes."""

    value: float = Field(ge=0.0, description="In the importance's own units; a score of exactly this stays.")

    def keep(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compared as torch compares, in the score's dtype; what is not a number stays."""
        return {name: ~(score < self.value) for name, score in scores.items()}
