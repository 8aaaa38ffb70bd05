"""The loop in which distillation losses are compared: torch alone, so that every environment runs the very same.

A small trained teacher, a student of half the width, 30 steps of SGD with momentum on batches of 32. Both give
features by name: low (B, C, 8, 8), high (B, C, 4, 4), vector (B, C), logits (B, 10). All random numbers are fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS, BATCH, CLASSES, CHANNELS = 30, 32, 10, {"student": (4, 8), "teacher": (8, 16)}
Features = dict[str, Tensor]
Formula = Callable[[Features, Features, Tensor], Tensor]  # of student, of teacher, targets (B,) -> ()


class Contender(NamedTuple):
    """A loss with what it trains beside the student."""

    formula: Formula
    parameters: Sequence[Tensor] = ()


class Small(nn.Module):
    """Two convolutions, the mean over positions, a linear layer."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.low = nn.Conv2d(1, low, 3, padding=1)
        self.high = nn.Conv2d(low, high, 3, 2, padding=1)
        self.head = nn.Linear(high, CLASSES)

    def forward(self, images: Tensor) -> Features:
        """Features of images (B, 1, 8, 8)."""
        low = F.relu(self.low(images))
        high = F.relu(self.high(low))
        vector = high.mean((2, 3))
        return {"low": low, "high": high, "vector": vector, "logits": self.head(vector)}


def _data(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(N, 1, 8, 8) images: a pattern for each class, and noise; (N,) classes."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(CLASSES, 1, 8, 8, generator=generator, dtype=torch.float64)
    targets = torch.randint(CLASSES, (STEPS * BATCH,), generator=generator)
    noise = torch.randn(STEPS * BATCH, 1, 8, 8, generator=generator, dtype=torch.float64)
    return (patterns[targets] + 0.5 * noise).to(dtype), targets


def _network(who: str, dtype: torch.dtype) -> Small:
    torch.manual_seed(1)
    return Small(*CHANNELS[who]).to(dtype)


def _train(network: Small, parameters: Sequence[Tensor], loss_of: Callable[[Features, int], Tensor]) -> list[float]:
    optimizer = torch.optim.SGD([*network.parameters(), *parameters], 0.05, momentum=0.9)
    images, _ = _data(network.head.weight.dtype)
    values = []
    for step, batch in enumerate(images.split(BATCH)):  # type: ignore[no-untyped-call]
        loss = loss_of(network(batch), step)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        values.append(loss.item())
    return values


def descend(contender: Contender, dtype: torch.dtype) -> list[float]:
    """The loss at each of the steps that a student takes down it."""
    images, targets = _data(dtype)
    teacher = _network("teacher", dtype)
    parts = targets.split(BATCH)  # type: ignore[no-untyped-call]
    _train(teacher, (), lambda own, step: F.cross_entropy(own["logits"], parts[step]))
    with torch.no_grad():
        lessons = [teacher(batch) for batch in images.split(BATCH)]  # type: ignore[no-untyped-call]
    student = _network("student", dtype)
    return _train(student, contender.parameters, lambda own, step: contender.formula(own, lessons[step], parts[step]))
