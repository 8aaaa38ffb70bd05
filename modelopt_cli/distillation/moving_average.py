"""A student's moving average as its teacher (mean teacher, Tarvainen & Valpola, 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import torch

from modelopt_cli.distillation.teacher_outputs import Teacher
from modelopt_cli.distillation.weighted_losses import TaughtCriterion, TaughtState, WeightedLosses
from modelopt_cli.models.duplicates import duplicate

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.data.raw import Task
    from modelopt_cli.distillation.settings import Guidance
    from modelopt_cli.distillation.teacher_outputs import TeacherOutput
    from modelopt_cli.training.batches import Batch
    from modelopt_cli.training.criterion import CriterionContext, StepInfo


class AverageState(TypedDict):
    """What a moving average goes on from."""

    module: dict[str, Any]
    steps: int


class MovingAverageState(TaughtState):
    """What the criterion goes on from."""

    average: AverageState


class MovingAverage:
    """Weights are averaged over the steps; buffers (running statistics) are the student's."""

    def __init__(self, student: nn.Module, decay: float) -> None:
        """`decay`: share of the average that stays in a step, less in the first: (1 + t) / (10 + t)."""
        self.module, self._student, self._decay, self._steps = duplicate(student), student, decay, 0

    @torch.no_grad()
    def follow(self) -> None:
        """The student has taken a step."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        for average, new in zip(self.module.parameters(), self._student.parameters(), strict=True):
            average.lerp_(new, 1.0 - decay)
        for kept, current in zip(self.module.buffers(), self._student.buffers(), strict=True):
            kept.copy_(current)

    def state(self) -> AverageState:
        """What going on needs."""
        return {"module": self.module.state_dict(), "steps": self._steps}

    def load_state(self, state: AverageState) -> None:
        """Go on from what `state` gave."""
        self.module.load_state_dict(state["module"])
        self._steps = state["steps"]


class MovingAverageCriterion(TaughtCriterion):
    """The student's own moving average teaches."""

    def __init__(self, settings: Guidance, task: Task, decay: float) -> None:
        super().__init__(settings, task)
        self._decay = decay
        self._average: MovingAverage
        self._teacher: Teacher

    def begin(self, context: CriterionContext) -> None:
        """See the base class."""
        student = context.module
        self._losses = WeightedLosses(self._settings.losses_for(self._task), self._task, student, student)
        self._average = MovingAverage(student, self._decay)
        self._teacher = Teacher(self._average.module, self._losses.teacher_paths, autocast=context.autocast)
        self._losses.begin(context, self._teacher.answer)

    def teacher_output(self, batch: Batch, step_info: StepInfo) -> TeacherOutput:
        """See the base class."""
        return self._teacher.answer(batch.inputs)

    def after_step(self) -> None:
        """See the base class."""
        self._average.follow()

    def state(self) -> MovingAverageState:
        """See the base class."""
        return {**super().state(), "average": self._average.state()}

    def load_state(self, state: MovingAverageState) -> None:  # type: ignore[override]  # its own state, and no other
        """See the base class."""
        super().load_state(state)
        self._average.load_state(state["average"])
