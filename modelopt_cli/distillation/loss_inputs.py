"""What a distillation loss is given: outputs, targets and features of one batch, and their shapes before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.data.raw import Task


@dataclass(frozen=True)
class LossInputs:
    """B samples. Nothing of the teacher requires gradients."""

    student: Tensor  # (B, K) float32: logits, or values in units of the train targets' deviation
    teacher: Tensor  # (B, K) float32, likewise
    targets: Tensor  # (B,) int64 classes | (B, K) float32: soft targets of classes, labels 0/1, scaled values
    weights: Tensor | None  # (B,) float32 sample weights
    indices: Tensor  # (B,) int64 on the device: each sample's number, below `FeatureShapes.samples`
    task: Task
    label_loss: Callable[[], Tensor]  # the training section's loss of the student on the targets, ()
    student_features: tuple[Tensor, ...] = ()  # at the loss's taps, in their order: (B, C, ...)
    teacher_features: tuple[Tensor, ...] = ()

    def mean(self, values: Tensor) -> Tensor:
        """The mean of `values` (B,) over samples, weighted where these have weights; ()."""
        if self.weights is None:
            return values.mean()
        return (values * self.weights).sum() / self.weights.sum().clamp_min(1e-12)


@dataclass(frozen=True)
class FeatureShapes:
    """What a loss with a state of its own is made for. Shapes are of one sample, found by a dry forward pass."""

    outputs: int  # K
    samples: int  # numbers of train samples are below this
    targets: Tensor  # (N,) or (N, K): the train samples' targets, on the device, ...
    indices: Tensor  # (N,) int64: ... and their numbers
    student: tuple[tuple[int, ...], ...] = field(default=())  # of each tap's feature, without the batch
    teacher: tuple[tuple[int, ...], ...] = field(default=())
