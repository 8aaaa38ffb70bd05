"""Whole units: neurons, channels, heads, which are taken out so that the model becomes smaller."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Literal, final

from pydantic import Field

from modelopt_cli.core.types import Count
from modelopt_cli.pruning.structures import Cutter, UnitStructure

if TYPE_CHECKING:
    from torch import Tensor

_Share = Annotated[float, Field(ge=0.0, le=1.0)]
Normalize = Literal["none", "mean", "max", "rank", "isomorphic"]


@final
class Neurons(UnitStructure):
    """Neurons, channels, heads, hidden units: out of every tensor that they touch (Fang et al., CVPR 2023)."""

    round_to: Count = Field(1, description="What is left of a group is a multiple of this, as hardware likes it.")
    limits: dict[str, _Share] = Field(
        {},
        description="Glob over groups (inspect --groups) -> the largest share of each that may go; the first counts.",
    )
    aggregate: Literal["sum", "mean", "max"] = Field(
        "mean", description="A unit's score from those of all the tensors that it touches."
    )
    normalize: Normalize = Field(
        "mean",
        description="Makes scores of different groups comparable: by the group's mean or largest score, by the rank in "
        "the group, or in all groups of a kind (isomorphic pruning); a threshold is compared with plain ones.",
    )
    shift_statistics: bool = Field(
        False,
        description="Also units that layer norms, RMS norms and means run over: what is left then means another thing.",
    )
    apply: Literal["auto", "module", "graph"] = Field(
        "auto",
        description="module: shrink the model's own modules, and leave alone what they cannot do; graph: the exported "
        "graph takes the model's place; auto: the graph only where the modules cannot do it.",
    )

    def keep(self, scores: Mapping[str, Tensor], cut: Cutter) -> Mapping[str, Tensor]:
        """What the cuts leave, but for limits, `round_to` and at least one step of it in each group."""
        cuts = cut(scores)
        return {name: self._mask(name, score, cuts[name].count(score)) for name, score in scores.items()}

    def most(self, name: str, size: int) -> int:
        """How many units of a group may go; at least `round_to` stay."""
        share = next((limit for glob, limit in self.limits.items() if fnmatchcase(name, glob)), 1.0)
        return max(0, min(math.floor(share * size + 1e-9), size - min(self.round_to, size)))

    def _mask(self, name: str, score: Tensor, removed: int) -> Tensor:
        from modelopt_cli.pruning.common.cuts import lowest

        size = score.numel()
        left = size - min(removed, self.most(name, size))
        left = min(size, math.ceil(left / self.round_to) * self.round_to)
        return lowest(score, size - left).removes(score).logical_not_()
