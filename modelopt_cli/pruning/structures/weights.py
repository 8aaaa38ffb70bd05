"""Single weights, each of which may become 0 on its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from modelopt_cli.pruning.structures import Cutter, MaskStructure, Merit

if TYPE_CHECKING:
    from torch import Tensor


@final
class Weights(MaskStructure):
    """Single weights: any weight may go."""

    def problem(self, shape: tuple[int, ...]) -> str | None:
        """None: every shape will do."""
        return None

    def keep(
        self, contributions: Mapping[str, Tensor], merit: Merit, removed: Mapping[str, Tensor], cut: Cutter
    ) -> Mapping[str, Tensor]:
        """See the base class."""
        import torch

        from modelopt_cli.pruning.common.lazy_tensors import LazyTensors

        def score(name: str) -> Tensor:
            ranks = merit(contributions[name])
            return ranks.masked_fill(removed[name], -torch.inf) if name in removed else ranks

        scores = LazyTensors(contributions, score)
        cuts = cut(scores)
        return LazyTensors(contributions, lambda name: cuts[name].removes(scores[name]).logical_not_())
