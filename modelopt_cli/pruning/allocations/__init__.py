"""Allocations: how much goes, and where. One file each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from modelopt_cli.core.strategy import Strategy

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.cuts import Cut

__all__ = ["Allocation", "Judge"]

Judge = Callable[[str, "Cut"], float]
"""The validation loss when this tensor alone is cut like this."""


class Allocation(Strategy):
    """Base of all allocations."""

    family: ClassVar[str] = "allocations"
    measures: ClassVar[bool] = False
    """True when `cuts` needs a judge: the allocation tries out what removing costs."""
    absolute: ClassVar[bool] = False
    """True when the target is a score, not a share."""
    piecewise: ClassVar[bool] = False
    """True when pieces of a tensor may stand for it: there is one border, whatever lies where."""

    @abstractmethod
    def cuts(self, scores: Mapping[str, Tensor], target: float, judge: Judge | None = None) -> dict[str, Cut]:
        """Where each tensor's scores are cut. `target`: the share of all scores to remove, 0 to 1.

        Scores may be negative; those of what is gone already are -inf, and go first.
        """
