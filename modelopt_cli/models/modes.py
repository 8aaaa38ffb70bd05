"""Evaluation mode for a while: dropout off, batch normalisation by its running statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every part of the modules is in the mode that it was in (a frozen one in its own)."""
    modes = [[(part, part.training) for part in module.modules()] for module in modules]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for module, own in zip(modules, modes, strict=True):
            module.train(own[0][1])  # what its own code does when the mode changes
            for part, mode in own:
                part.training = mode
