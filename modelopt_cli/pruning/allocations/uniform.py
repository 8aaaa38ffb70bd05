"""Allocation of the same share to every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from modelopt_cli.pruning.allocations import Allocation, SensitivityProbe

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.cuts import Cut


@final
class Uniform(Allocation):
    """The same share of every tensor goes."""

    def cuts(
        self, scores: Mapping[str, Tensor], target: float, probe: SensitivityProbe | None = None
    ) -> dict[str, Cut]:
        """Exactly round(target * n) of each tensor's n scores go; among equal ones the first in memory order."""
        from modelopt_cli.pruning.common.cuts import lowest

        return {name: lowest(score, round(target * score.numel())) for name, score in scores.items()}
