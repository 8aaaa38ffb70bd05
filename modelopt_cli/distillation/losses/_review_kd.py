"""The fusions of knowledge review, and its loss (the authors' code: dvlab-research/ReviewKD)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from modelopt_cli.distillation.losses._features import pooled

if TYPE_CHECKING:
    from torch import Tensor


class Review(nn.Module):
    """One fusion a tap, shallow to deep; `channels`: of student and teacher at each."""

    def __init__(self, channels: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        middle = min(512, channels[-1][0])
        last = len(channels) - 1
        self.fusions = nn.ModuleList(
            Fusion(student, middle, teacher, fuses=number < last) for number, (student, teacher) in enumerate(channels)
        )

    def forward(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
        """(B,), from maps (B, C, H, W) of each tap."""
        values, deeper = [], None
        for fusion, student, teacher in zip(
            reversed(self.fusions), reversed(students), reversed(teachers), strict=True
        ):
            fused, deeper = fusion(student, deeper, (teacher.shape[2], teacher.shape[3]))
            values.append(context_loss(fused, teacher))
        return torch.stack(values).sum(0)


class Fusion(nn.Module):
    """Attention-based fusion (figure 4a): two maps of weights say how much of this tap, how much of the deeper ones."""

    def __init__(self, student: int, middle: int, teacher: int, *, fuses: bool) -> None:
        super().__init__()
        enter = nn.Conv2d(student, middle, 1, bias=False)
        leave = nn.Conv2d(middle, teacher, 3, padding=1, bias=False)
        self.enter = nn.Sequential(enter, Norm(middle))
        self.attend = nn.Conv2d(2 * middle, 2, 1) if fuses else None
        self.leave = nn.Sequential(leave, Norm(teacher))
        for convolution in (enter, leave):
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(self, student: Tensor, deeper: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """What is compared with the teacher, (B, C', *size), and what goes on to the shallower tap, (B, M, *size)."""
        maps = self.enter(student)
        if self.attend is not None and deeper is not None:
            deeper = F.interpolate(deeper, (maps.shape[2], maps.shape[3]), mode="nearest")
            weights = self.attend(torch.cat([maps, deeper], 1)).sigmoid()  # (B, 2, H, W)
            maps = maps * weights[:, :1] + deeper * weights[:, 1:]
        if maps.shape[2:] != size:
            maps = F.interpolate(maps, size, mode="nearest")
        return self.leave(maps), maps


class Norm(nn.BatchNorm2d):
    """Batch normalisation that takes a single value a channel (a last batch of one): by the running statistics."""

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W)."""
        if self.training and maps.numel() == maps.shape[1]:
            return F.batch_norm(maps, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(maps)


def context_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Hierarchical context loss (section 3.4), (B,): squared differences at full size, and averaged to 4², 2² and 1².

    Each smaller size has half of the weight of the one before; weights sum to 1.
    """
    value, weight, total = (student - teacher).square().mean((1, 2, 3)), 1.0, 1.0
    for side in (4, 2, 1):
        if side < min(student.shape[2:]):
            weight /= 2
            total += weight
            apart = pooled(student, (side, side)) - pooled(teacher, (side, side))
            value = value + weight * apart.square().mean((1, 2, 3))
    return value / total
