"""Structures: what may go on its own. One file each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from modelopt_cli.core.strategy import Strategy

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.allocations import Allocation

__all__ = ["Structure"]


class Structure(Strategy):
    """Base of all structures."""

    family: ClassVar[str] = "structures"
    fixed: ClassVar[bool] = False
    """True when the structure itself says how much goes, so that there is no allocation."""

    @abstractmethod
    def problem(self, shape: tuple[int, ...]) -> str | None:
        """Why a tensor of this shape cannot have the structure; None when it can."""

    @abstractmethod
    def keep(self, scores: Mapping[str, Tensor], allocation: Allocation | None) -> dict[str, Tensor]:
        """Masks in the scores' shapes: True stays, False goes."""
