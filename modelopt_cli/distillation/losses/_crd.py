"""The embeddings and memories of contrastive representation distillation. N train samples, K negatives, D dimensions.

The critic of a pair is P / (P + K / N), with P = exp(a·b / T) / Z (Z is estimated once, from the first batch):
a logistic function of log P - log(K / N), so all is computed in log space.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from modelopt_cli.core.errors import UsageError
from modelopt_cli.distillation.losses._features import normalized

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.distillation.loss_inputs import FeatureShapes


class Contrast(nn.Module):
    """Noise-contrastive estimation between a student's and a teacher's features, both ways."""

    order: Tensor  # (N,) sample numbers, class by class
    classes: Tensor  # (samples,) class by sample number
    starts: Tensor  # (classes,) where each begins in `order`, ...
    counts: Tensor  # ... and how many samples it has
    memory: Tensor  # (2, samples, D): embeddings of student and teacher
    log_z: Tensor  # (2,) log of Z of either memory; inf before the first batch

    def __init__(
        self,
        student: int,
        teacher: int,
        shapes: FeatureShapes,
        *,
        dimensions: int,
        negatives: int,
        temperature: float,
        momentum: float,
    ) -> None:
        """`student`, `teacher`: channels of their features. The rest is as Crd has it."""
        super().__init__()
        self.negatives, self.temperature, self.momentum = negatives, temperature, momentum
        self.student = nn.Linear(student, dimensions)
        self.teacher = nn.Linear(teacher, dimensions)
        bound = math.sqrt(3 / dimensions)  # rows have an expected squared norm of 1
        self.register_buffer("memory", torch.empty(2, shapes.samples, dimensions).uniform_(-bound, bound))
        self.register_buffer("log_z", torch.full((2,), math.inf))
        self._register_classes(shapes)

    def _register_classes(self, shapes: FeatureShapes) -> None:
        targets, indices = shapes.targets.cpu(), shapes.indices.cpu()
        known = targets.ndim == 1 and not targets.is_floating_point()
        own = targets if known else torch.arange(len(targets))  # (N,)
        classes, own, counts = torch.unique(own, return_inverse=True, return_counts=True)
        if len(classes) < 2:
            raise UsageError(
                f"all {len(targets)} train samples are of class {int(classes[0])}; crd contrasts samples with those of "
                "other classes: use another loss, such as fitnets"
            )
        self.register_buffer("order", indices[own.argsort(stable=True)])
        self.register_buffer("classes", torch.zeros(shapes.samples, dtype=torch.long).index_copy(0, indices, own))
        self.register_buffer("starts", counts.cumsum(0) - counts)
        self.register_buffer("counts", counts)

    def forward(self, student: Tensor, teacher: Tensor, indices: Tensor) -> Tensor:
        """The loss of each sample, (B,), from features (B, C) and (B, C'); renews the memory of `indices` (B,)."""
        embedded = normalized(self.student(student), 1), normalized(self.teacher(teacher), 1)  # (B, D)
        drawn = self._drawn(indices)
        memory = self.memory.clone()  # as the gradient needs it after it is renewed
        values = [self._values(embedded[side], memory[1 - side], self.log_z[side], drawn, indices) for side in (0, 1)]
        with torch.no_grad():
            new = torch.stack(embedded)  # (2, B, D)
            new = self.momentum * memory[:, indices] + (1 - self.momentum) * new
            self.memory[:, indices] = normalized(new, 2)
        return values[0] + values[1]

    @torch.no_grad()
    def _drawn(self, indices: Tensor) -> Tensor:
        """How often each sample number is drawn as a negative of each of the batch, (B, samples).

        Counts, so that the gradient is a product of matrices: fast, and reproducible also on GPUs.
        """
        own = self.classes[indices]
        starts, counts = self.starts[own].unsqueeze(1), self.counts[own].unsqueeze(1)  # (B, 1)
        drawn = torch.randint(2**62, (len(indices), self.negatives), device=indices.device)
        drawn = drawn % (len(self.order) - counts)
        numbers = self.order[drawn + counts * (drawn >= starts)]  # (B, K): the own class is stepped over
        times = self.memory.new_zeros(len(indices), self.memory.shape[1])
        return times.scatter_add_(1, numbers, times.new_ones(1, 1).expand_as(numbers))

    def _values(self, anchors: Tensor, memory: Tensor, log_z: Tensor, drawn: Tensor, indices: Tensor) -> Tensor:
        """(B,), of anchors (B, D) against the other side's memory (samples, D). Sets `log_z` in the first batch."""
        scores = anchors @ memory.T / self.temperature  # (B, samples)
        own = indices.unsqueeze(1)
        with torch.no_grad():
            all_drawn = drawn.scatter_add(1, own, drawn.new_ones(1, 1).expand_as(own))
            mean = (scores + all_drawn.log()).flatten().logsumexp(0) - all_drawn.sum().log()
            log_z.copy_(torch.where(log_z.isinf(), mean + math.log(len(self.order)), log_z))
        margins = scores - log_z.clone() - math.log(self.negatives / len(self.order))  # log P - log(K / N)
        return F.softplus(-margins.gather(1, own)).squeeze(1) + (drawn * F.softplus(margins)).sum(1)
