"""Importances: how much each weight matters. One file each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from modelopt_cli.core.strategy import Strategy

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Importance"]


class Importance(Strategy):
    """Base of all importances."""

    family: ClassVar[str] = "importances"

    @abstractmethod
    def score(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A score for every weight, in the weight's own shape and dtype; the lowest go first."""
