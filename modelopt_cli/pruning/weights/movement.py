"""Collecting movement while training goes on (Sanh et al., NeurIPS 2020, sec. 4)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modelopt_cli.training.hooks import StepHook


class MovementMeter(StepHook):
    """Sums -w dL/dw over optimizer steps: positive where training moves a weight away from 0."""

    def __init__(self, weights: Mapping[str, nn.Parameter]) -> None:
        self._weights = dict(weights)
        self.sums = {name: torch.zeros_like(weight) for name, weight in self._weights.items()}

    @torch.no_grad()
    def after_backward(self) -> None:
        """Add this step's movement."""
        for name, weight in self._weights.items():
            if weight.grad is not None:
                self.sums[name].addcmul_(weight, weight.grad, value=-1.0)

    def load(self, sums: Mapping[str, Tensor]) -> None:
        """Go on from sums that were collected before."""
        for name, total in sums.items():
            self.sums[name].copy_(total)
