"""Optimizers: torch.optim by name, every argument checked without importing torch. One file each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from modelopt_cli.core.strategy import Strategy

if TYPE_CHECKING:
    import torch

__all__ = ["Optimizer"]


class Optimizer(Strategy):
    """Base of all optimizers. Fields are called, and default to, what torch.optim's arguments are."""

    family: ClassVar[str] = "optimizers"
    closure: ClassVar[bool] = False
    """True when a step evaluates the loss several times (L-BFGS)."""

    @abstractmethod
    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimizer over `parameters`."""

    def arguments(self) -> dict[str, Any]:
        """The fields as keyword arguments for torch's class."""
        return {name: getattr(self, name) for name in type(self).model_fields}
