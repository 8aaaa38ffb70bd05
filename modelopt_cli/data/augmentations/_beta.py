"""Beta-distributed numbers from uniform ones, by a table of the quantile function.

The table's nodes lie at probabilities sin^2(pi t / 2), close together where the function is steep, at 0 and 1. Linear
in between, it is within 1e-3 of the quantile for alpha from 0.1 to 10.
"""

from __future__ import annotations

import math
from functools import cache

import torch

_CELLS = 1 << 14


def beta_quantile(uniform: torch.Tensor, alpha: float) -> torch.Tensor:
    """(B,) numbers in [0, 1) to quantiles of Beta(alpha, alpha), float32, on the same device."""
    table = _table(alpha, str(uniform.device))
    position = uniform.double().sqrt().asin() * (2 / math.pi * _CELLS)
    cell = position.long().clamp(max=_CELLS - 1)
    low, high = table[cell], table[cell + 1]
    return (low + (high - low) * (position - cell)).float()


@cache
def _table(alpha: float, device: str) -> torch.Tensor:
    """(_CELLS + 1,) quantiles."""
    import numpy as np
    from scipy.special import betaincinv

    probabilities = np.sin(np.linspace(0, np.pi / 2, _CELLS + 1)) ** 2
    return torch.from_numpy(betaincinv(alpha, alpha, probabilities)).to(device)
