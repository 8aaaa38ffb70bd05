"""Logits of many classes, of which the largest are kept: the others share what probability is left."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Largest(NamedTuple):
    """The k largest of K logits of N samples."""

    values: Tensor  # (N, k) float32, log-probabilities
    classes: Tensor  # (N, k) int32
    rest: Tensor  # (N,) float32: log of the probability of all others together


def pack(logits: Tensor, k: int) -> Largest:
    """From logits (N, K), k < K."""
    logs = torch.log_softmax(logits.float(), 1)
    values, classes = logs.topk(k, 1)
    others = logs.scatter(1, classes, -math.inf)
    return Largest(values, classes.to(torch.int32), others.logsumexp(1))


def unpack(kept: Largest, outputs: int) -> Tensor:
    """Log-probabilities (N, K): exact for the k largest, and in their sum for the others."""
    count = outputs - kept.values.shape[1]
    spread = (kept.rest - math.log(count)).unsqueeze(1).expand(-1, outputs)
    return spread.scatter(1, kept.classes.long(), kept.values)
