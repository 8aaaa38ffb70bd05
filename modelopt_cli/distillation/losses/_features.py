"""Features made comparable: kinds, positions, sizes and norms. B samples, P positions, C channels.

A feature is a vector (B, C), tokens (B, L, C) or maps (B, C, H, W). All of them are seen as C channels at P positions:
1, L or H W of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from modelopt_cli.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.distillation.loss_inputs import FeatureShapes

Shape = tuple[int, ...]
KINDS = {1: "vectors (C)", 2: "tokens (L, C)", 3: "maps (C, H, W)"}
POSITIONED = (2, 3)  # kinds that have more than one position


def pairs(
    shapes: FeatureShapes, loss: str, kinds: Sequence[int] = (1, 2, 3), *, alike: bool = True
) -> list[tuple[Shape, Shape]]:
    """The (student, teacher) shapes of each tap. Raises UsageError unless `loss` can compare them.

    `kinds`: how many dimensions a feature may have. `alike`: position by position, so that both must be of one kind,
    tokens also of one number.
    """
    if len(shapes.student) != len(shapes.teacher):
        raise UsageError(
            f"{loss} has {len(shapes.student)} taps of the student and {len(shapes.teacher)} of the teacher; it "
            "compares them one by one: give as many teacher_taps as taps"
        )
    pairs_of_shapes = list(zip(shapes.student, shapes.teacher, strict=True))
    for number, (student, teacher) in enumerate(pairs_of_shapes, 1):
        fact = f"tap {number} of {loss} gives {student} in the student and {teacher} in the teacher"
        if any(len(shape) not in kinds for shape in (student, teacher)):
            raise UsageError(f"{fact}; it takes {' or '.join(KINDS[kind] for kind in kinds)}: tap another module")
        if alike and len(student) != len(teacher):
            raise UsageError(f"{fact}; it compares features of one kind: tap modules whose outputs are alike")
        if alike and len(student) == 2 and student[0] != teacher[0]:
            raise UsageError(f"{fact}; it compares token by token: tap modules with the same number of tokens")
    return pairs_of_shapes


def channels(shape: Shape) -> int:
    """C, of a feature's shape without the batch."""
    return shape[0] if len(shape) == 3 else shape[-1]


def positions(feature: Tensor) -> Tensor:
    """(B, P, C) of a feature of any kind."""
    if feature.ndim == 4:
        return feature.flatten(2).transpose(1, 2)
    return feature.unsqueeze(1) if feature.ndim == 2 else feature


def matched(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """For each tap, (B, P, C) of the student and (B, P, C') of the teacher.

    Where maps differ in size, the larger are averaged down to the smaller (adaptive pooling, along each axis).
    """
    for student, teacher in zip(students, teachers, strict=True):
        if student.ndim == 4:
            size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
            student, teacher = pooled(student, size), pooled(teacher, size)
        yield positions(student), positions(teacher)


def pooled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Adaptive average pooling of (B, C, H, W) to (B, C, *size), as torch's.

    A product of matrices, because the gradient of torch's own is not reproducible on GPUs.
    """
    for axis, to in ((2, size[0]), (3, size[1])):
        if maps.shape[axis] != to:
            maps = torch.tensordot(maps, _averages(maps.shape[axis], to).to(maps), ([axis], [1])).movedim(-1, axis)
    return maps


def _averages(length: int, to: int) -> Tensor:
    """(to, length): row i averages the inputs from floor(i length / to) to ceil((i + 1) length / to)."""
    rows = torch.arange(to).unsqueeze(1)
    columns = torch.arange(length)
    inside = (columns >= rows * length // to) & (columns < -(-(rows + 1) * length // to))
    return inside / inside.sum(1, keepdim=True)


def normalized(values: Tensor, dim: int) -> Tensor:
    """Values of norm 1 along `dim`. Zeros stay zeros, and their gradient is that of the values as they are."""
    norms: Tensor = torch.linalg.vector_norm(values, dim=dim, keepdim=True)
    return values / norms.where(norms > 1e-20, 1.0)


def scaled(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Values whose largest size over `dims` is 1: for what does not depend on the scale, but could overflow by it."""
    largest = values.detach().abs().amax(dims, keepdim=True)
    return values / largest.where(largest > 0, 1.0)
