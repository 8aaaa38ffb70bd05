"""The `distillation:` section: who teaches, what of it the student descends, and what is measured beside it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from modelopt_cli.core.strategy import Named, Settings
from modelopt_cli.core.types import Count, Fraction, Items, Positive
from modelopt_cli.data.augmentations import Augmentation
from modelopt_cli.data.raw import Task
from modelopt_cli.distillation.losses import DistillationLoss, FeatureLoss
from modelopt_cli.distillation.losses.labels import Labels
from modelopt_cli.distillation.losses.mse import Mse
from modelopt_cli.distillation.losses.soft_targets import SoftTargets
from modelopt_cli.models.architectures import Architecture
from modelopt_cli.training.settings import TrainingSettings

__all__ = [
    "Cache",
    "DistillationSettings",
    "Ema",
    "Guidance",
    "LearnerSettings",
    "Mutual",
    "RecoveryGuidance",
    "TeacherSettings",
]


class LearnerSettings(Settings):
    """A network that is trained on the way to the student: a teacher, or an assistant between it and the student."""

    model: Annotated[Architecture, Named("models")] | None = Field(None, description="What teaches: any model.")
    training: TrainingSettings | None = Field(None, description="How it is trained first; null: it is trained already.")
    augment: Items[Annotated[Augmentation, Named("augmentations")]] | None = Field(
        None, description="Changes to its training images; null: as in the data section."
    )
    seed: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Of its training, so that all seeds of an experiment share it; null: the experiment's."
    )


class TeacherSettings(LearnerSettings):
    """A teacher: a model.pt of modelopt, weights of a model, or a model that is trained first."""

    path_fields: ClassVar[tuple[str, ...]] = ("path", "weights")
    shorthand: ClassVar[str] = "path"
    """The key that a bare text stands for: `teacher: model.pt`."""

    path: str | None = Field(None, description="A model.pt of modelopt; `teacher: model.pt` says the same.")
    weights: str | None = Field(None, description="A state dict (.pt, .pth, .bin, .safetensors) for the model.")
    trust_code: bool = Field(False, exclude=True, description="Run the code that the model.pt names, if it names any.")
    weight: Positive = Field(1.0, description="Its share among several teachers, with combine: weighted.")

    @property
    def trained_here(self) -> bool:
        """Whether it is trained (of scikit-learn: fitted) before the student."""
        return self.model is not None and (self.training is not None or self.model.framework == "sklearn")

    @model_validator(mode="after")
    def _is_there(self) -> Self:
        if (self.path is None) == (self.model is None):
            given = "neither" if self.path is None else "both"
            raise ValueError(
                f"a teacher has exactly one of path and model, found {given}; write e.g. teacher: model.pt, or "
                "teacher: {model: {type: mlp}, training: {epochs: 10}}"
            )
        if self.path is not None and (self.weights or self.training or self.augment):
            raise ValueError("a teacher with a path is trained already; leave out weights, training and augment")
        if self.weights is not None and self.training is not None:
            raise ValueError("a teacher with weights is trained already; leave out training, or the weights")
        if self.model is not None and self.model.framework == "torch":
            ready = self.weights is not None or self.model.is_trained is not False
            if not ready and self.training is None:
                raise ValueError(
                    f"the teacher {self.model.name()} would teach untrained; add training, e.g. training: "
                    "{epochs: 10}, or its weights"
                )
        elif self.weights is not None or self.training is not None:
            raise ValueError("a scikit-learn teacher is fitted to the train split; leave out weights and training")
        return self


def _spelled_out(value: Any) -> Any:
    """`teacher: model.pt` is `teacher: {path: model.pt}`."""
    return {TeacherSettings.shorthand: value} if isinstance(value, str) else value


Teacher = Annotated[TeacherSettings, BeforeValidator(_spelled_out, json_schema_input_type=TeacherSettings | str)]


class Cache(Settings):
    """Where a teacher's outputs are kept, when its inputs repeat exactly: without augmentation, or with `views`."""

    where: Literal["auto", "memory", "disk", "none"] = Field(
        "auto",
        description="auto: in memory, where inputs repeat and the outputs take at most a quarter of what is free.",
    )
    views: Count | None = Field(
        None, description="Different augmentations of each sample, which come again epoch after epoch; null: endless."
    )
    top_k: Count | None = Field(
        None, description="Keep the largest logits of each sample alone; the others share what probability is left."
    )


class Ema(Settings):
    """The student's own moving average as its teacher (Tarvainen & Valpola, 2017)."""

    decay: Fraction = Field(0.999, description="Share of the average that stays in a step; less in the first ones.")


class Mutual(Settings):
    """Networks that learn together, each from the mean of the others (Zhang et al., CVPR 2018)."""

    count: Annotated[int, Field(ge=2)] = Field(2, description="Networks in all; the first is the student.")
    models: Items[Annotated[Architecture, Named("models")]] = Field(
        (), description="The other ones; empty: of the student's model, with other seeds."
    )

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        if self.models and len(self.models) != self.count - 1:
            raise ValueError(
                f"count is {self.count}, so there are {self.count - 1} networks beside the student, but models has "
                f"{len(self.models)}; write one for each, or none"
            )
        return self


class Guidance(Settings):
    """What a student learns from, whoever taught the teacher."""

    left_out: ClassVar[tuple[str, ...]] = ("losses",)
    """Options that are not written out where nobody wrote them: their default depends on the data's task."""

    losses: Items[Annotated[DistillationLoss, Named("distillation_losses")]] = Field(
        (Labels(weight=0.1), SoftTargets(weight=0.9)),
        description="What is descended: the sum of these, by their weights. Left out, for regression: labels and mse.",
    )
    combine: Literal["mean", "weighted", "confidence"] = Field(
        "mean",
        description="Of several teachers: the mean of their logits, the mean by their weights, or for each sample by "
        "how well each knows its label (CA-MKD, Zhang et al., 2022).",
    )
    cache: Cache = Field(Cache(), description="Teacher outputs that are kept.")

    @model_validator(mode="after")
    def _something_is_descended(self) -> Self:
        if self.losses and not any(loss.weight for loss in self.losses):
            raise ValueError("all losses have weight 0, so there is nothing to descend; give one a weight above 0")
        if not self.needs_teacher:
            raise ValueError("no loss looks at the teacher; add one, e.g. {type: soft_targets, temperature: 4.0}")
        return self

    def losses_for(self, task: Task) -> tuple[DistillationLoss, ...]:
        """The losses; where they were left out, ones that the task can have."""
        if task == "regression" and "losses" not in self.model_fields_set:
            return (Labels(weight=0.1), Mse(weight=0.9))
        return self.losses

    @property
    def needs_teacher(self) -> bool:
        """Whether some loss looks at a teacher."""
        return any(loss.needs_teacher for loss in self.losses)


class DistillationSettings(Guidance):
    """Options of distillation. The student is the model section, trained by the training section."""

    teacher: Teacher | None = Field(None, description="Who teaches: a model.pt, or a section that says more.")
    teachers: Items[Teacher] = Field((), description="Several teachers, in place of one; features come from the first.")
    ema: Ema | None = Field(None, description="The student's moving average teaches, in place of a teacher.")
    mutual: Mutual | None = Field(None, description="Students teach each other, in place of a teacher.")
    assistants: Items[LearnerSettings] = Field(
        (),
        description="Models between teacher and student, each distilled from the one before (Mirzadeh et al., 2020); "
        "what is null is the training section's.",
    )
    generations: Count | None = Field(
        None,
        description="Students in a row, each taught by the one before (born-again networks, Furlanello et al., 2018); "
        "without a teacher the first one's is the student trained alone. null: one.",
    )
    start: Literal["fresh", "teacher"] = Field(
        "fresh",
        description="The student's weights at first. teacher: those of the (first) teacher, layer by layer, where both "
        "have the same layer (same path, names and shapes); the others begin as drawn.",
    )
    baseline: bool = Field(True, description="Train the student alone as well, by the same training section.")
    leave_out: Items[str | int] = Field((), description="Classes that the student's train split lacks, by name.")

    @property
    def given_teachers(self) -> tuple[TeacherSettings, ...]:
        """One or several; none where the student teaches itself."""
        return (self.teacher,) if self.teacher is not None else self.teachers

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        names = ("teacher", "teachers", "ema", "mutual")
        given = [name for name in names if getattr(self, name) not in (None, ())]
        alone = not given and self.generations is not None  # the student alone teaches its successor
        if len(given) > 1 or (not given and not alone):
            raise ValueError(
                f"a student has exactly one of {', '.join(names)}; found {' and '.join(given) or 'none of them'}. "
                "Write e.g. teacher: runs/teacher/model.pt"
            )
        if self.generations is not None and (self.ema or self.mutual):
            raise ValueError(f"generations need a teacher that is finished; leave out {given[0]}, or generations")
        if (self.ema or self.mutual) and self.cache != Cache():
            raise ValueError(
                f"{given[0]} teaches something else in every step, so nothing can be kept; leave out cache"
            )
        if self.start == "teacher" and (self.ema or self.mutual):
            raise ValueError(f"start is teacher, but with {given[0]} there is none to begin from; leave out start")
        if self.start == "teacher" and self.given_teachers:
            first = self.given_teachers[0].model
            if first is not None and first.framework != "torch":
                raise ValueError(f"start is teacher, but its teacher, {first.name()}, has no layers; leave out start")
        if self.assistants and not self.given_teachers:
            raise ValueError("assistants stand between a teacher and the student; name a teacher, or leave them out")
        if alone and not self.baseline:
            raise ValueError("the student alone is the first teacher here; leave out baseline: false")
        return self

    @model_validator(mode="after")
    def _losses_fit(self) -> Self:
        if self.mutual is not None and any(isinstance(loss, FeatureLoss) for loss in self.losses):
            raise ValueError("mutual learning compares outputs; leave out the losses on features")
        for number, learner in enumerate(self.assistants):
            if learner.model is None:
                raise ValueError(f"assistants.{number} needs a model, e.g. model: {{type: mlp, hidden: [64]}}")
            if learner.model.framework != "torch":
                raise ValueError(f"assistants.{number} is trained like the student, so its model must be a torch model")
        return self


class RecoveryGuidance(Guidance):
    """How a model that was pruned, or is to be quantized, learns from a teacher while it recovers."""

    teacher: Teacher | None = Field(None, description="Who teaches; null: the model as it was before.")

    @model_validator(mode="after")
    def _teacher_is_ready(self) -> Self:
        if self.cache.where == "disk":
            raise ValueError(
                "cache.where is disk, but a recovery keeps its teacher's outputs in memory; use memory or auto"
            )
        if self.teacher is not None and self.teacher.trained_here:
            raise ValueError("a teacher of a recovery is trained already; train it before, and name its model.pt")
        return self
