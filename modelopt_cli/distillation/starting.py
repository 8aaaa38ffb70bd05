"""A student that begins with its teacher's weights, layer by layer, where both have the same layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn


def start_from(student: nn.Module, teacher: nn.Module) -> list[str]:
    """Give every layer of `student` the weights and statistics of the teacher's layer of the same path.

    A layer is taken whole or not at all: its own tensors have the same names and shapes on both sides (so a shallower
    student takes the layers that it has, as DistilBERT does: Sanh et al., 2019; a narrower one takes almost none).
    Returns the paths of the layers that were taken, in the student's order.
    """
    theirs = dict(teacher.named_modules())
    taken = []
    with torch.no_grad():
        for path, layer in student.named_modules():
            own, other = _tensors(layer), _tensors(theirs.get(path))
            if not own or {name: value.shape for name, value in own.items()} != {
                name: value.shape for name, value in other.items()
            }:
                continue
            for name, value in own.items():
                value.copy_(other[name])
            taken.append(path)
    return taken


def _tensors(layer: nn.Module | None) -> dict[str, torch.Tensor]:
    """The layer's own parameters and buffers, not those of layers within."""
    if layer is None:
        return {}
    named = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
    return dict(named)
