"""Guides a student through its training by finished teachers, or by its own moving average."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from modelopt_cli.core.errors import UsageError
from modelopt_cli.distillation.adapting import itself
from modelopt_cli.distillation.combining import combined
from modelopt_cli.distillation.lessons import Lesson, Lessons, Live, Teacher
from modelopt_cli.distillation.moving import MovingAverage
from modelopt_cli.distillation.objective import Objective
from modelopt_cli.distillation.store import Stored, digest, free_bytes, row_bytes
from modelopt_cli.training.guidance import Guide, Moment, Setting

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.data.raw import Task
    from modelopt_cli.distillation.settings import Cache, Guidance
    from modelopt_cli.training.batches import Batch


class _Taught(Guide):
    """Base of the guides that give one lesson for each batch."""

    def __init__(self, settings: Guidance, task: Task) -> None:
        self._settings, self._task = settings, task
        self._objective: Objective

    def loss(self, batch: Batch, outputs: Tensor, label_loss: Callable[[], Tensor], moment: Moment) -> Tensor:
        """See the base class."""
        lesson = self._lesson(batch, moment) if self._settings.needs_teacher else None
        return self._objective.loss(batch, outputs, lesson, label_loss, moment)

    @abstractmethod
    def _lesson(self, batch: Batch, moment: Moment) -> Lesson: ...

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


class TeacherGuide(_Taught):
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
        self._lessons: list[Lessons] = []
        self.cached = False

    def begin(self, setting: Setting) -> None:
        """See the base class."""
        device = setting.train.device
        modules = [module.to(device) for module in self._modules]
        self._objective = Objective(
            self._settings.losses_for(self._task), self._task, setting.module, itself(modules[0])
        )
        paths = self._objective.teacher_paths
        teachers = self._teachers = [
            Teacher(module, paths if place == 0 else (), autocast=setting.autocast)
            for place, module in enumerate(modules)
        ]
        self._check(teachers, setting)
        self._objective.begin(setting, teachers[0].answer)
        self.cached = self._keeps(teachers, setting)
        self._lessons = [self._source(teacher, setting) for teacher in teachers]

    def _lesson(self, batch: Batch, moment: Moment) -> Lesson:
        view = self.view(moment.epoch)
        lessons = [source.lesson(batch, view) for source in self._lessons]
        return combined(lessons, self._settings.combine, self._weights, batch.targets, self._task)

    def close(self) -> None:
        """See the base class."""
        super().close()
        for teacher in self._teachers:
            teacher.close()

    def _source(self, teacher: Teacher, setting: Setting) -> Lessons:
        cache = self._settings.cache
        if not self.cached:
            return Live(teacher, cache.top_k)
        key = f"{digest(teacher.module)}-{self._data}-{len(setting.train)}"
        folder = self._folder if cache.where == "disk" else None
        if cache.where == "disk" and folder is None:
            raise UsageError("a cache on disk lies in the run directory, but nothing is written here; use memory")
        return Stored(teacher, setting, key, folder=folder, top_k=cache.top_k, block=setting.batch_size)

    def _keeps(self, teachers: Sequence[Teacher], setting: Setting) -> bool:
        """Whether outputs are kept. Raises UsageError where the settings ask for it and inputs never repeat."""
        cache = self._settings.cache
        if cache.where == "none" or not self._settings.needs_teacher:
            return False
        why_not = _never_repeats(cache, setting)
        if why_not:
            if cache.where != "auto":
                raise UsageError(f"distillation.cache.where is {cache.where}, but {why_not}")
            return False
        if cache.where != "auto":
            return True
        sample = setting.transform(setting.train.inputs[:1].to(setting.train.device))
        row = sum(row_bytes(teacher, sample, cache.top_k) for teacher in teachers)
        return row * len(setting.train) * (self.views or 1) <= free_bytes(setting.train.device) // 4

    def _check(self, teachers: Sequence[Teacher], setting: Setting) -> None:
        """Raise UsageError for a teacher whose outputs are not the student's, or that fails on its inputs."""
        top_k = self._settings.cache.top_k
        if top_k is not None and (self._task != "classification" or top_k >= setting.outputs):
            raise UsageError(
                f"distillation.cache.top_k is {top_k}, but must be below the number of classes"
                + (f" ({setting.outputs})" if self._task == "classification" else f", and the task is {self._task}")
            )
        sample = setting.transform(setting.train.inputs[:2].to(setting.train.device))
        for place, teacher in enumerate(teachers):
            name = "teacher" if len(teachers) == 1 else f"teacher {place + 1}"
            found = tuple(teacher.answer(sample).outputs.shape)
            if found != (2, setting.outputs):
                raise UsageError(
                    f"the {name} gives {found[1:]} outputs for a sample, but the student {setting.outputs}; use a "
                    "teacher that was trained for the same targets"
                )


class MovingGuide(_Taught):
    """The student's own moving average teaches."""

    def __init__(self, settings: Guidance, task: Task, decay: float) -> None:
        super().__init__(settings, task)
        self._decay = decay
        self._average: MovingAverage

    def begin(self, setting: Setting) -> None:
        """See the base class."""
        self._objective = Objective(self._settings.losses_for(self._task), self._task, setting.module, setting.module)
        paths = self._objective.teacher_paths
        self._average = MovingAverage(setting.module, paths, self._decay, autocast=setting.autocast)
        self._objective.begin(setting, self._average.answer)

    def _lesson(self, batch: Batch, moment: Moment) -> Lesson:
        return self._average.lesson(batch, moment.epoch)

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


def _never_repeats(cache: Cache, setting: Setting) -> str:
    """Why inputs do not come again exactly; empty when they do."""
    if setting.augmented is None:
        return ""
    if setting.mixes:
        return "an augmentation mixes samples, so no view of one comes again; leave out mixup, or use none"
    if cache.views is None:
        return "data.augment makes new images in every epoch; say how many come again, e.g. cache: {views: 4}"
    return ""
