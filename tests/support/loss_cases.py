"""What distillation losses are tested on: batches of outputs, and features of every kind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.data.raw import Task
from modelopt_cli.distillation.loss_inputs import FeatureShapes, LossInputs
from modelopt_cli.distillation.losses import DistillationLoss, FeatureLoss

Shapes = tuple[tuple[int, ...], ...]

FAMILY = FAMILIES["distillation_losses"]
NAMES = FAMILY.names()
ON_FEATURES = [name for name in NAMES if issubclass(FAMILY.get(name), FeatureLoss)]
SAMPLES, CLASSES = 12, 4

# Of student and teacher, two taps each. Sizes of maps differ both ways, and are no multiples of each other.
KINDS: dict[str, tuple[Shapes, Shapes]] = {
    "vectors": (((5,), (3,)), ((7,), (3,))),
    "tokens": (((6, 5), (3, 4)), ((6, 7), (3, 2))),
    "maps": (((3, 7, 6), (5, 2, 3)), ((4, 3, 4), (2, 5, 5))),
}
OPTIONS: dict[str, dict[str, Any]] = {"crd": {"negatives": 20, "dimensions": 8}}
POSITIONED = {"attention_transfer", "nst"}
TAKES = {
    name: [
        kind
        for kind in KINDS
        if not (kind == "vectors" and name in POSITIONED) and not (kind == "tokens" and name == "review_kd")
    ]
    for name in ON_FEATURES
}
FEATURE_CASES = [(name, kind) for name in ON_FEATURES for kind in TAKES[name]]


def loss_of(name: str, **options: Any) -> DistillationLoss:
    if name in ON_FEATURES:
        options = {"taps": ["a", "b"], **OPTIONS.get(name, {}), **options}
    return FAMILY.get(name).model_validate(options)  # type: ignore[return-value]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inputs_of(
    student: Tensor,
    teacher: Tensor,
    *,
    task: Task = "classification",
    targets: Tensor | None = None,
    weights: Tensor | None = None,
    students: tuple[Tensor, ...] = (),
    teachers: tuple[Tensor, ...] = (),
) -> LossInputs:
    """Targets, unless given, go round the classes; sample b of the batch has the number 2 b."""
    numbers = torch.arange(len(student))
    if targets is None:
        targets = numbers % student.shape[1] if task == "classification" else torch.zeros(student.shape)
    return LossInputs(
        student=student,
        teacher=teacher,
        targets=targets,
        weights=weights,
        indices=2 * numbers,
        task=task,
        label_loss=lambda: F.cross_entropy(student, numbers % student.shape[1]),
        student_features=students,
        teacher_features=teachers,
    )


def featured(students: tuple[Tensor, ...], teachers: tuple[Tensor, ...], weights: Tensor | None = None) -> LossInputs:
    outputs = torch.zeros(len(students[0]), CLASSES)
    return inputs_of(outputs, outputs, students=students, teachers=teachers, weights=weights)


def drawn(shapes: Shapes, batch: int = 5, seed: int = 0) -> tuple[Tensor, ...]:
    return tuple(random(batch, *shape, seed=10 * seed + number) for number, shape in enumerate(shapes))


def shapes_of(student: Shapes, teacher: Shapes, targets: Tensor | None = None) -> FeatureShapes:
    """Train samples are every second number, from the last one on."""
    if targets is None:
        targets = torch.arange(SAMPLES) % 3
    return FeatureShapes(
        outputs=CLASSES,
        samples=2 * SAMPLES,
        targets=targets,
        indices=2 * torch.arange(SAMPLES).flip(0),
        student=student,
        teacher=teacher,
    )


def state_of(loss: DistillationLoss, kind: str, seed: int = 0) -> nn.Module | None:
    if not isinstance(loss, FeatureLoss):
        return None
    torch.manual_seed(seed)
    return loss.init(shapes_of(*KINDS[kind]), seed)
