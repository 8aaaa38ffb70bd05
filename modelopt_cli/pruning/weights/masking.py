"""Masks that stay exact while training goes on: what is gone gets no gradient, and is 0 after every step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modelopt_cli.training.hooks import StepHook


class Masking(StepHook):
    """The masks of a module's weights. Gradients are masked before clipping, so that what is gone weighs nothing there.

    The weights themselves are masked after the step, because momentum and weight decay may move what has no gradient.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], masks: Mapping[str, Tensor] | None = None) -> None:
        """`masks`: True stays, in the weights' shapes; for names without one everything stays. Applied at once."""
        self.weights = dict(weights)
        self.masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in self.weights.items()}
        self.set(masks or {})

    def set(self, masks: Mapping[str, Tensor]) -> None:
        """Replace these masks, and apply all."""
        for name, mask in masks.items():
            self.masks[name] = mask.to(self.weights[name].device)
        self._factors = [mask.to(self.weights[name].dtype) for name, mask in self.masks.items()]
        self.apply()

    @property
    def removed(self) -> dict[str, Tensor]:
        """True where a weight is gone; no entry where nothing is."""
        return {name: ~mask for name, mask in self.masks.items() if not bool(mask.all())}

    @property
    def counts(self) -> tuple[int, int]:
        """(weights that are gone, all weights that have masks)."""
        total = sum(mask.numel() for mask in self.masks.values())
        return total - sum(int(mask.count_nonzero()) for mask in self.masks.values()), total

    @torch.no_grad()
    def apply(self) -> None:
        """Put (positive) zeros where weights are gone."""
        for name, mask in self.masks.items():
            self.weights[name].masked_fill_(~mask, 0.0)

    @torch.no_grad()
    def after_backward(self) -> None:
        """Mask the gradients."""
        pairs = [
            (weight.grad, factor)
            for weight, factor in zip(self.weights.values(), self._factors, strict=True)
            if weight.grad is not None and not weight.grad.is_sparse
        ]
        if pairs:
            torch._foreach_mul_([grad for grad, _ in pairs], [factor for _, factor in pairs])

    @torch.no_grad()
    def after_step(self) -> None:
        """Mask the weights."""
        if self.weights:
            torch._foreach_mul_(list(self.weights.values()), self._factors)
