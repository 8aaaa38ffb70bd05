"""What a teacher says about samples: computed batch by batch as the student goes, or taken from a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from modelopt_cli.distillation.adapting import itself
from modelopt_cli.distillation.sparse import pack, unpack
from modelopt_cli.distillation.taps import Taps
from modelopt_cli.training.inference import precision

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.training.batches import Batch


class TeacherOutput(NamedTuple):
    """A teacher's answer to B samples, without gradients."""

    outputs: Tensor  # (B, K) float32
    features: Mapping[str, Tensor]  # path -> (B, ...)


class TeacherOutputs(ABC):
    """A teacher at work during a training."""

    @abstractmethod
    def teacher_output(self, batch: Batch, view: int) -> TeacherOutput:
        """The answer to a batch, whose inputs are as its `view` (counted from 1) shows them."""


class Teacher:
    """A finished network in evaluation mode; `paths`: the modules that features are read from."""

    def __init__(self, module: nn.Module, paths: Sequence[str] = (), *, autocast: bool = False) -> None:
        self.module, self._autocast = module.eval().requires_grad_(False), autocast
        self._taps = Taps(itself(module), paths, "teacher")
        self._taps.open()

    @property
    def paths(self) -> tuple[str, ...]:
        """Where features are read."""
        return self._taps.paths

    def answer(self, inputs: Tensor) -> TeacherOutput:
        """Outputs and features of inputs (B, ...) on the module's device."""
        self.module.eval()
        with torch.no_grad(), precision(inputs.device, self._autocast):
            outputs: Tensor = self.module(inputs)
        return TeacherOutput(outputs.float(), self._taps.take())

    def close(self) -> None:
        """Take the hooks off the module."""
        self._taps.close()


class OnlineTeacher(TeacherOutputs):
    """Asks the teacher about each batch; `top_k`: what is said is what a store would keep."""

    def __init__(self, teacher: Teacher, top_k: int | None = None) -> None:
        self._teacher, self._top_k = teacher, top_k

    def teacher_output(self, batch: Batch, view: int) -> TeacherOutput:
        """See the base class."""
        found = self._teacher.answer(batch.inputs)
        if self._top_k is None:
            return found
        return found._replace(outputs=unpack(pack(found.outputs, self._top_k), found.outputs.shape[1]))
