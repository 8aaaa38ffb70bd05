"""Compensations: how what stays makes up for what goes, before any training. One file each."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from modelopt_cli.core.strategy import Strategy
from modelopt_cli.pruning.common.statistics import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.moments import Moments
    from modelopt_cli.pruning.common.statistics import Statistics

__all__ = ["Compensated", "Compensation", "UnitCompensation", "WeightCompensation"]


class Compensated(NamedTuple):
    """The new weight, zero where it goes, and what to add to the layer's bias, (out,); None: nothing."""

    weight: Tensor
    bias: Tensor | None = None


class Compensation(Strategy):
    """Base of all compensations: for single weights, for whole units, or for both."""

    family: ClassVar[str] = "compensations"


class WeightCompensation(Compensation):
    """Base of those that make up for weights. Each layer is taken with the inputs it had before."""

    needs: ClassVar[Needs] = frozenset()

    @abstractmethod
    def compensate(self, name: str, weight: Tensor, keep: Tensor, statistics: Statistics) -> Compensated:
        """`weight` (out, in, ...) is what it was before pruning, `keep` its mask (True stays)."""


class UnitCompensation(Compensation):
    """Base of those that make up for units: the layer that took them is fitted anew to what is left of its inputs."""

    fits: ClassVar[bool] = True
    """False when `refit` does not look at the moments, so that they need not be measured."""
    everywhere: ClassVar[bool] = False
    """True when a layer that lost nothing is fitted too, to make up for what layers before it could not."""

    @abstractmethod
    def refit(self, weight: Tensor, moments: Moments) -> Compensated:
        """The new weight (out, s), and what to add to the bias, from the old one (out, n)."""
