"""How far a model's outputs are from what they were before something was cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from modelopt_cli.data.raw import Task

Distance = Callable[[Tensor, Tensor], float]
"""(outputs before, outputs now), both (B, outputs), -> how far they are apart, a mean over samples."""


def distance_for(task: Task) -> Distance:
    """Of class probabilities the divergence, of other outputs the relative squared error."""
    return divergence if task == "classification" else relative_error


def divergence(before: Tensor, now: Tensor) -> float:
    """Kullback-Leibler divergence of the class probabilities, KL(before || now), of logits (B, classes), in nats."""
    nats = torch.nn.functional.kl_div(now.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="sum")
    return float(nats) / len(before)


def relative_error(before: Tensor, now: Tensor) -> float:
    """Mean squared difference over the variance of the outputs before."""
    return float((now - before).square().mean() / before.var().clamp_min(1e-12))


def apart(before: Sequence[Tensor], now: Sequence[Tensor], distance: Distance) -> float:
    """The mean over all samples of all batches."""
    count = sum(len(each) for each in now)
    return sum(distance(was, new) * len(new) for was, new in zip(before, now, strict=True)) / max(count, 1)
