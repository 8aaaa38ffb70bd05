"""Which scores are the lowest, in linear time and with an exact count."""

from __future__ import annotations

import torch
from torch import Tensor


def lowest(scores: Tensor, count: int) -> Tensor:
    """True for exactly `count` of the scores: the lowest, among equal ones the first. Shape of `scores`.

    Scores that are not a number count as highest.
    """
    flat = scores.reshape(-1)  # (n,)
    flat = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
    flat = torch.where(flat.isnan(), torch.inf, flat)
    if count <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if count >= flat.numel():
        return torch.ones_like(scores, dtype=torch.bool)
    border = flat.kthvalue(count).values
    chosen = flat < border
    equal = (flat == border).nonzero()[:, 0]
    chosen[equal[: count - int(chosen.sum())]] = True
    return chosen.view(scores.shape)
