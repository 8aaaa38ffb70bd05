"""Optimizers: torch.optim by name, every argument checked without importing torch. One file each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from modelopt_cli.core.strategy import Strategy

if TYPE_CHECKING:
    import torch

__all__ = ["Optimizer"]


class Optimizer(Strategy):
    """Base of all optimizers."""

    family: ClassVar[str] = "optimizers"

    @abstractmethod
    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimizer over `parameters`."""
