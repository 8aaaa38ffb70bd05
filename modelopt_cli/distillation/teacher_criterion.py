"""Guides a student through its training by finished teachers, or by its own moving average."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from modelopt_cli.core.errors import UsageError
from modelopt_cli.distillation.adapting import itself
from modelopt_cli.distillation.cache import CachedTeacher, digest, free_bytes, row_bytes
from modelopt_cli.distillation.combining import combined
from modelopt_cli.distillation.moving_average import MovingAverage
from modelopt_cli.distillation.teacher_outputs import OnlineTeacher, Teacher, TeacherOutput, TeacherOutputs
from modelopt_cli.distillation.weighted_losses import WeightedLosses
from modelopt_cli.training.criterion import Criterion, CriterionContext, StepInfo

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.data.raw import Task
    from modelopt_cli.distillation.settings import Cache, Guidance
    from modelopt_cli.training.batches import Batch


class TaughtCriterion(Criterion):
    """Base of the criteria that compare a student with one teacher output for each batch."""

    def __init__(self, settings: Guidance, task: Task) -> None:
        self._settings, self._task = settings, task
        self._objective: WeightedLosses

    def loss(self, batch: Batch, outputs: Tensor, label_loss: Callable[[], Tensor], step_info: StepInfo) -> Tensor:
        """See the base class."""
        teacher_output = self._teacher_output(batch, step_info) if self._settings.needs_teacher else None
        return self._objective.loss(batch, outputs, teacher_output, label_loss, step_info)

    @abstractmethod
    def _teacher_output(self, batch: Batch, step_info: StepInfo) -> TeacherOutput: ...

    def parameters(self) -> Sequence[torch.nn.Parameter]:
        """See the base class."""
        return self._objective.parameters()

    def close(self) -> None:
        """See the base class."""
        self._objective.close()

    def state(self) -> Any:
        """See the base class."""
        return {"losses": self._objective.state()}

    def load_state(self, state: Any) -> None:
        """See the base class."""
        self._objective.load_state(state["losses"])


class TeacherCriterion(TaughtCriterion):
    """One or several finished teachers, modules that take what the student takes (adapting.py)."""

    def __init__(
        self,
        settings: Guidance,
        teachers: Sequence[nn.Module],
        task: Task,
        *,
        weights: Sequence[float] = (),
        data: str = "",
        folder: Path | None = None,
    ) -> None:
        """`data`: the fingerprint of the data, for the cache; `folder`: where a cache on disk lies."""
        super().__init__(settings, task)
        self._modules, self._weights = list(teachers), list(weights) or [1.0] * len(teachers)
        self._data, self._folder = data, folder
        self.views = settings.cache.views
        self._teachers: list[Teacher] = []
        self._teacher_outputs: list[TeacherOutputs] = []
        self.cached = False

    def begin(self, context: CriterionContext) -> None:
        """See the base class."""
        device = context.train.device
        modules = [module.to(device) for module in self._modules]
        self._objective = WeightedLosses(
            self._settings.losses_for(self._task), self._task, context.module, itself(modules[0])
        )
        paths = self._objective.teacher_paths
        teachers = self._teachers = [
            Teacher(module, paths if place == 0 else (), autocast=context.autocast)
            for place, module in enumerate(modules)
        ]
        self._check(teachers, context)
        self._objective.begin(context, teachers[0].answer)
        self.cached = self._keeps(teachers, context)
        self._teacher_outputs = [self._source(teacher, context) for teacher in teachers]

    def _teacher_output(self, batch: Batch, step_info: StepInfo) -> TeacherOutput:
        view = self.view(step_info.epoch)
        teacher_outputs = [source.teacher_output(batch, view) for source in self._teacher_outputs]
        return combined(teacher_outputs, self._settings.combine, self._weights, batch.targets, self._task)

    def close(self) -> None:
        """See the base class."""
        super().close()
        for teacher in self._teachers:
            teacher.close()

    def _source(self, teacher: Teacher, context: CriterionContext) -> TeacherOutputs:
        cache = self._settings.cache
        if not self.cached:
            return OnlineTeacher(teacher, cache.top_k)
        key = f"{digest(teacher.module)}-{self._data}-{len(context.train)}"
        folder = self._folder if cache.where == "disk" else None
        if cache.where == "disk" and folder is None:
            raise UsageError("a cache on disk lies in the run directory, but nothing is written here; use memory")
        return CachedTeacher(teacher, context, key, folder=folder, top_k=cache.top_k, block=context.batch_size)

    def _keeps(self, teachers: Sequence[Teacher], context: CriterionContext) -> bool:
        """Whether outputs are kept. Raises UsageError where the settings ask for it and inputs never repeat."""
        cache = self._settings.cache
        if cache.where == "none" or not self._settings.needs_teacher:
            return False
        why_not = _never_repeats(cache, context)
        if why_not:
            if cache.where != "auto":
                raise UsageError(f"distillation.cache.where is {cache.where}, but {why_not}")
            return False
        if cache.where != "auto":
            return True
        sample = context.transform(context.train.inputs[:1].to(context.train.device))
        row = sum(row_bytes(teacher, sample, cache.top_k) for teacher in teachers)
        return row * len(context.train) * (self.views or 1) <= free_bytes(context.train.device) // 4

    def _check(self, teachers: Sequence[Teacher], context: CriterionContext) -> None:
        """Raise UsageError for a teacher whose outputs are not the student's, or that fails on its inputs."""
        top_k = self._settings.cache.top_k
        if top_k is not None and (self._task != "classification" or top_k >= context.outputs):
            raise UsageError(
                f"distillation.cache.top_k is {top_k}, but must be below the number of classes"
                + (f" ({context.outputs})" if self._task == "classification" else f", and the task is {self._task}")
            )
        sample = context.transform(context.train.inputs[:2].to(context.train.device))
        for place, teacher in enumerate(teachers):
            name = "teacher" if len(teachers) == 1 else f"teacher {place + 1}"
            found = tuple(teacher.answer(sample).outputs.shape)
            if found != (2, context.outputs):
                raise UsageError(
                    f"the {name} gives {found[1:]} outputs for a sample, but the student {context.outputs}; use a "
                    "teacher that was trained for the same targets"
                )


class MovingAverageCriterion(TaughtCriterion):
    """The student's own moving average teaches."""

    def __init__(self, settings: Guidance, task: Task, decay: float) -> None:
        super().__init__(settings, task)
        self._decay = decay
        self._average: MovingAverage

    def begin(self, context: CriterionContext) -> None:
        """See the base class."""
        self._objective = WeightedLosses(
            self._settings.losses_for(self._task), self._task, context.module, context.module
        )
        paths = self._objective.teacher_paths
        self._average = MovingAverage(context.module, paths, self._decay, autocast=context.autocast)
        self._objective.begin(context, self._average.answer)

    def _teacher_output(self, batch: Batch, step_info: StepInfo) -> TeacherOutput:
        return self._average.teacher_output(batch, step_info.epoch)

    def after_step(self) -> None:
        """See the base class."""
        self._average.follow()

    def state(self) -> Any:
        """See the base class."""
        return {**super().state(), "average": self._average.state()}

    def load_state(self, state: Any) -> None:
        """See the base class."""
        super().load_state(state)
        self._average.load_state(state["average"])


def _never_repeats(cache: Cache, context: CriterionContext) -> str:
    """Why inputs do not come again exactly; empty when they do."""
    if context.augmented is None:
        return ""
    if context.mixes:
        return "an augmentation mixes samples, so no view of one comes again; leave out mixup, or use none"
    if cache.views is None:
        return "data.augment makes new images in every epoch; say how many come again, e.g. cache: {views: 4}"
    return ""
