"""What may take part in every optimizer step: masks that must stay exact, criteria that collect during training."""

from __future__ import annotations


class StepHook:
    """Called around each optimizer step; does nothing by itself, subclasses override what they need."""

    def before_step(self, step: int, steps: int) -> None:
        """Before optimizer step `step` of `steps` in the whole training (from 0)."""

    def after_backward(self) -> None:
        """Gradients are there, neither clipped nor used yet."""

    def after_step(self) -> None:
        """The optimizer has changed the parameters."""
