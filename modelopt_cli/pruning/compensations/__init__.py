"""Compensations: how what stays makes up for what goes, before any training. One file each."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from modelopt_cli.core.strategy import Strategy
from modelopt_cli.pruning.statistics import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.statistics import Statistics

__all__ = ["Compensated", "Compensation"]


class Compensated(NamedTuple):
    """The new weight, zero where it goes, and what to add to the layer's bias, (out,); None: nothing."""

    weight: Tensor
    bias: Tensor | None = None


class Compensation(Strategy):
    """Base of all compensations. Layers are taken one by one, each with the inputs that the dense model gave it."""

    family: ClassVar[str] = "compensations"
    needs: ClassVar[Needs] = frozenset()

    @abstractmethod
    def compensate(self, name: str, weight: Tensor, keep: Tensor, statistics: Statistics) -> Compensated:
        """`weight` (out, in, ...) is what it was before pruning, `keep` its mask (True stays)."""
