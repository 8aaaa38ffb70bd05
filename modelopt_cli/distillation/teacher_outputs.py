"""What a teacher says about samples: computed batch by batch as the student goes, or looked up (see cache.py).

Of many classes the largest logits alone may be kept: the others share what probability is left.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from modelopt_cli.distillation.adapting import inner
from modelopt_cli.distillation.taps import Taps
from modelopt_cli.training.inference import precision

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.training.batches import Batch


class TeacherOutput(NamedTuple):
    """A teacher's answer to B samples, without gradients."""

    outputs: Tensor  # (B, K) float32
    features: Mapping[str, Tensor]  # path -> (B, ...)


class TopLogits(NamedTuple):
    """The k largest of K logits of N samples."""

    values: Tensor  # (N, k) float32, log-probabilities
    classes: Tensor  # (N, k) int32
    rest: Tensor  # (N,) float32: log of the probability of all others together


def pack(logits: Tensor, k: int) -> TopLogits:
    """From logits (N, K), k < K."""
    logs = torch.log_softmax(logits.float(), 1)
    values, classes = logs.topk(k, 1)
    others = logs.scatter(1, classes, -math.inf)
    return TopLogits(values, classes.to(torch.int32), others.logsumexp(1))


def unpack(kept: TopLogits, outputs: int) -> Tensor:
    """Log-probabilities (N, K): exact for the k largest, and in their sum for the others."""
    count = outputs - kept.values.shape[1]
    spread = (kept.rest - math.log(count)).unsqueeze(1).expand(-1, outputs)
    return spread.scatter(1, kept.classes.long(), kept.values)


class Teacher:
    """A finished network in evaluation mode; `paths`: the modules that features are read from."""

    def __init__(self, module: nn.Module, paths: Sequence[str] = (), *, autocast: bool = False) -> None:
        self.module, self._autocast = module.eval().requires_grad_(False), autocast
        self._taps = Taps(inner(module), paths, "teacher")
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


class TeacherOutputs(ABC):
    """A teacher at work during a training."""

    @abstractmethod
    def of(self, batch: Batch, view: int) -> TeacherOutput:
        """The answer to a batch, whose inputs are as its `view` (counted from 1) shows them."""


class OnlineTeacher(TeacherOutputs):
    """Asks the teacher about each batch; `top_k`: what is said is what a cache would keep."""

    def __init__(self, teacher: Teacher, top_k: int | None = None) -> None:
        self._teacher, self._top_k = teacher, top_k

    def of(self, batch: Batch, view: int) -> TeacherOutput:
        """See the base class."""
        answer = self._teacher.answer(batch.inputs)
        if self._top_k is None:
            return answer
        return answer._replace(outputs=unpack(pack(answer.outputs, self._top_k), answer.outputs.shape[1]))
