"""Allocations: how much goes, and where. One file each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from modelopt_cli.core.strategy import Strategy

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Allocation"]


class Allocation(Strategy):
    """Base of all allocations."""

    family: ClassVar[str] = "allocations"

    @abstractmethod
    def keep(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Masks in the scores' shapes: True stays, False goes."""
