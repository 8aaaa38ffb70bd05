"""The Gaussian that variational information distillation learns at a tap."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 1e-5  # variance


class Gaussian(nn.Module):
    """Mean from the student's features by three linear layers, and a variance for each of the teacher's channels."""

    def __init__(self, student: int, teacher: int, variance: float) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Linear(student, teacher, bias=False),
            nn.ReLU(),
            nn.Linear(teacher, teacher, bias=False),
            nn.ReLU(),
            nn.Linear(teacher, teacher, bias=False),
        )
        above = max(variance - SMALLEST, SMALLEST)
        # The inverse of softplus, log(exp(v) - 1), that does not overflow.
        self.scale = nn.Parameter(torch.full((teacher,), above + math.log(-math.expm1(-above))))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Negative log-likelihood without its constant, mean over positions and channels, (B,), of (B, P, C)."""
        variance = F.softplus(self.scale) + SMALLEST
        values: Tensor = (self.mean(student) - teacher).square() / variance + variance.log()
        return 0.5 * values.mean((1, 2))
