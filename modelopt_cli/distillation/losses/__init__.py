"""Distillation losses: what a student descends. One file each.

Each has a weight, and a schedule that the weight follows over the optimizer steps, as a learning rate would.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from modelopt_cli.core.strategy import Named, Strategy
from modelopt_cli.core.types import Items
from modelopt_cli.training.schedules import LearningRateSchedule
from modelopt_cli.training.schedules.constant import Constant

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.data.raw import Task
    from modelopt_cli.distillation.loss_inputs import FeatureShapes, LossInputs

__all__ = ["DistillationLoss", "FeatureLoss", "OutputLoss"]


class DistillationLoss(Strategy):
    """Base of all distillation losses."""

    family: ClassVar[str] = "distillation_losses"
    tasks: ClassVar[tuple[Task, ...]] = ("classification", "multilabel", "regression")
    needs_teacher: ClassVar[bool] = True
    knows_samples: ClassVar[bool] = False
    """True when it remembers what a sample is, so that it does not go with augmentations that mix samples."""

    weight: Annotated[float, Field(ge=0.0)] = Field(1.0, description="What the loss is multiplied by in the sum.")
    schedule: Annotated[LearningRateSchedule, Named("schedules")] = Field(
        Constant(), description="How the weight changes over the steps: any schedule, e.g. a linear warm-up."
    )

    @abstractmethod
    def loss(self, inputs: LossInputs, state: nn.Module | None) -> Tensor:
        """The loss of a batch, (), before its weight. `state`: what `init` made."""


class OutputLoss(DistillationLoss):
    """Base of the losses on outputs (logits)."""

    tasks: ClassVar[tuple[Task, ...]] = ("classification",)

    standardize: bool = Field(
        False,
        description="Standardise each sample's logits, of student and teacher, before they are compared "
        "(logit standardisation, Sun et al., CVPR 2024); classes only.",
    )

    def loss(self, inputs: LossInputs, state: nn.Module | None) -> Tensor:
        """See the base class. Logits are compared in float32, also inside of autocast."""
        import torch

        from modelopt_cli.distillation.losses._divergence import standardized

        with torch.autocast(inputs.student.device.type, enabled=False):
            student, teacher = inputs.student.float(), inputs.teacher.detach().float()
            if self.standardize and inputs.task == "classification":
                student, teacher = standardized(student), standardized(teacher)
            return self.compare(student, teacher, inputs)

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor, inputs: LossInputs) -> Tensor:
        """The loss, (), of logits (B, K) that may have been standardised; `inputs` for targets and weights."""


class FeatureLoss(DistillationLoss):
    """Base of the losses on features inside the models, at taps: module paths or globs over them.

    A feature is a vector (B, C), tokens (B, L, C) or maps (B, C, H, W). Losses of several taps are added.
    """

    taps: Items[str] = Field(
        min_length=1, description="Modules of the student whose outputs are compared: paths or globs, e.g. layer3."
    )
    teacher_taps: Items[str] | None = Field(
        None, min_length=1, description="Modules of the teacher, one for each of the student's; null: the same paths."
    )

    def init(self, shapes: FeatureShapes, seed: int) -> nn.Module | None:
        """What is trained or remembered beside the student (projectors, a memory bank); None: nothing.

        Its parameters are trained by the student's optimizer. The caller has seeded torch's generator with `seed`.
        Raises UsageError where features cannot be compared.
        """
        return None

    def loss(self, inputs: LossInputs, state: nn.Module | None) -> Tensor:
        """See the base class. Features are compared in float32, also inside of autocast."""
        import torch

        with torch.autocast(inputs.student.device.type, enabled=False):
            students = [feature.float() for feature in inputs.student_features]
            teachers = [feature.detach().float() for feature in inputs.teacher_features]
            return self.compare(students, teachers, inputs, state)

    @abstractmethod
    def compare(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor], inputs: LossInputs, state: nn.Module | None
    ) -> Tensor:
        """The loss, (), of the features at the taps, in their order; `inputs` for weights and sample numbers."""
