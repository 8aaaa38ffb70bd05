"""Single weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from modelopt_cli.pruning.structures import Structure

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.allocations import Allocation


@final
class Weights(Structure):
    """Single weights: any weight may go."""

    def problem(self, shape: tuple[int, ...]) -> str | None:
        """None: every shape will do."""
        return None

    def keep(self, scores: Mapping[str, Tensor], allocation: Allocation | None) -> dict[str, Tensor]:
        """As the allocation says; all stay without one."""
        import torch

        if allocation is None:
            return {name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()}
        return allocation.keep(scores)
