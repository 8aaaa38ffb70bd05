"""The criterion of a student with finished teachers, which are asked in each step or looked up in a cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import UsageError
from modelopt_cli.distillation.adapting import inner
from modelopt_cli.distillation.cache import CachedTeacher, digest, free_bytes, row_bytes
from modelopt_cli.distillation.combining import combined
from modelopt_cli.distillation.teacher_outputs import OnlineTeacher, Teacher, TeacherOutput, TeacherOutputs
from modelopt_cli.distillation.weighted_losses import TaughtCriterion, WeightedLosses

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.data.raw import Task
    from modelopt_cli.distillation.settings import Cache, Guidance
    from modelopt_cli.training.batches import Batch, EpochBatches
    from modelopt_cli.training.criterion import CriterionContext, StepInfo


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
        self._sources: list[TeacherOutputs] = []
        self.cached = False  # whether the teachers are looked up

    def begin(self, context: CriterionContext) -> None:
        """See the base class."""
        modules = [module.to(context.batches.split.device) for module in self._modules]
        losses = self._settings.losses_for(self._task)
        self._losses = WeightedLosses(losses, self._task, context.module, inner(modules[0]))
        paths = self._losses.teacher_paths  # features are the first teacher's
        first, *others = modules
        teachers = [Teacher(first, paths, autocast=context.autocast)]
        teachers += [Teacher(module, autocast=context.autocast) for module in others]
        self._teachers = teachers
        self._check(teachers, context.batches)
        self._losses.begin(context, teachers[0].answer)
        self.cached = self._keeps(teachers, context.batches)
        self._sources = [self._source(teacher, context) for teacher in teachers]

    def teacher_output(self, batch: Batch, step_info: StepInfo) -> TeacherOutput:
        """See the base class."""
        view = self.view(step_info.epoch)
        answers = [source.of(batch, view) for source in self._sources]
        return combined(answers, self._settings.combine, self._weights, batch.targets, self._task)

    def close(self) -> None:
        """See the base class."""
        super().close()
        for teacher in self._teachers:
            teacher.close()

    def _source(self, teacher: Teacher, context: CriterionContext) -> TeacherOutputs:
        cache = self._settings.cache
        if not self.cached:
            return OnlineTeacher(teacher, cache.top_k)
        key = f"{digest(teacher.module)}-{self._data}-{len(context.batches.split)}"
        folder = self._folder if cache.where == "disk" else None
        if cache.where == "disk" and folder is None:
            raise UsageError("a cache on disk lies in the run directory, but nothing is written here; use memory")
        return CachedTeacher(teacher, context, key, folder=folder, top_k=cache.top_k)

    def _keeps(self, teachers: Sequence[Teacher], batches: EpochBatches) -> bool:
        """Whether outputs are kept. Raises UsageError where the settings ask for it and inputs never repeat."""
        cache, train = self._settings.cache, batches.split
        if cache.where == "none" or not self._settings.needs_teacher:
            return False
        why_not = _never_repeats(cache, batches)
        if why_not:
            if cache.where != "auto":
                raise UsageError(f"distillation.cache.where is {cache.where}, but {why_not}")
            return False
        if cache.where != "auto":
            return True
        row = sum(row_bytes(teacher, _first(batches, 1), cache.top_k) for teacher in teachers)
        return row * len(train) * (self.views or 1) <= free_bytes(train.device) // 4

    def _check(self, teachers: Sequence[Teacher], batches: EpochBatches) -> None:
        """Raise UsageError for a teacher whose outputs are not the student's, or that fails on its inputs."""
        top_k, outputs = self._settings.cache.top_k, batches.outputs
        if top_k is not None and (self._task != "classification" or top_k >= outputs):
            raise UsageError(
                f"distillation.cache.top_k is {top_k}, but must be below the number of classes"
                + (f" ({outputs})" if self._task == "classification" else f", and the task is {self._task}")
            )
        inputs = _first(batches, 2)
        for number, teacher in enumerate(teachers, 1):
            name = "teacher" if len(teachers) == 1 else f"teacher {number}"
            shape = tuple(teacher.answer(inputs).outputs.shape)
            if shape != (2, outputs):
                raise UsageError(
                    f"the {name} gives {shape[1:]} outputs for a sample, but the student {outputs}; use a "
                    "teacher that was trained for the same targets"
                )


def _first(batches: EpochBatches, count: int) -> Tensor:
    """Inputs of the first train samples, (count, ...), not augmented."""
    return batches.transform(batches.split.inputs[:count].to(batches.split.device))


def _never_repeats(cache: Cache, batches: EpochBatches) -> str:
    """Why inputs do not come again exactly; empty when they do."""
    if not batches.augment:
        return ""
    if batches.mixes:
        return "an augmentation mixes samples, so no view of one comes again; leave out mixup, or use none"
    if cache.views is None:
        return "data.augment makes new images in every epoch; say how many come again, e.g. cache: {views: 4}"
    return ""
