"""A student's moving average, which teaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from modelopt_cli.distillation.teacher_outputs import OnlineTeacher, Teacher
from modelopt_cli.models.duplicates import duplicate

if TYPE_CHECKING:
    from torch import nn


class MovingAverage(OnlineTeacher):
    """Weights are averaged over the steps; buffers (running statistics) are the student's."""

    def __init__(self, student: nn.Module, paths: tuple[str, ...], decay: float, *, autocast: bool) -> None:
        """`decay`: share of the average that stays in a step, less in the first: (1 + t) / (10 + t)."""
        self._module, self._student, self._decay, self._steps = duplicate(student), student, decay, 0
        teacher = Teacher(self._module, paths, autocast=autocast)
        super().__init__(teacher)
        self.answer = teacher.answer

    @torch.no_grad()
    def follow(self) -> None:
        """The student has taken a step."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        for own, new in zip(self._module.parameters(), self._student.parameters(), strict=True):
            own.lerp_(new, 1.0 - decay)
        for kept, found in zip(self._module.buffers(), self._student.buffers(), strict=True):
            kept.copy_(found)

    def state(self) -> dict[str, Any]:
        """What going on needs."""
        return {"module": self._module.state_dict(), "steps": self._steps}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._module.load_state_dict(state["module"])
        self._steps = state["steps"]
