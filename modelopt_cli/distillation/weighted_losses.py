"""What a student descends: distillation losses in a weighted sum, with what they train and remember.

`WeightedLosses` is that sum for one student; `TaughtCriterion` is the base of the criteria that compare a student with
one teacher output a batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import torch

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.seeds import derive
from modelopt_cli.distillation.loss_inputs import FeatureShapes, LossInputs
from modelopt_cli.distillation.losses import FeatureLoss
from modelopt_cli.distillation.taps import Taps, resolve
from modelopt_cli.models.modes import evaluating
from modelopt_cli.training.copies import own_random_numbers
from modelopt_cli.training.criterion import Criterion

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.data.raw import Task
    from modelopt_cli.distillation.losses import DistillationLoss
    from modelopt_cli.distillation.settings import Guidance
    from modelopt_cli.distillation.teacher_outputs import TeacherOutput
    from modelopt_cli.training.batches import Batch
    from modelopt_cli.training.criterion import CriterionContext, StepInfo

LossStates = dict[str, dict[str, Any]]
"""Number of a loss, as text -> the state dict of what it trains and remembers."""


class WeightedLosses:
    """What one student learns by. `teacher_paths`: where features of the teacher are read, in the losses' order."""

    def __init__(self, losses: Sequence[DistillationLoss], task: Task, student: nn.Module, teacher: nn.Module | None):
        """Raises UsageError for a loss that does not go with the task, and for taps that are not there."""
        for loss in losses:
            _check(loss, task)
        self._losses, self._task = tuple(losses), task
        self._pairs = {  # number of a loss -> (the student's path, the teacher's) for each of its taps
            number: _paired(loss, student, teacher)
            for number, loss in enumerate(losses)
            if isinstance(loss, FeatureLoss)
        }
        self._taps = Taps(student, [own for pairs in self._pairs.values() for own, _ in pairs], "student")
        self.teacher_paths = tuple(dict.fromkeys(other for pairs in self._pairs.values() for _, other in pairs))
        self._states: dict[int, nn.Module] = {}
        self._positions = torch.zeros(0, dtype=torch.int64)

    def begin(self, context: CriterionContext, ask: Callable[[Tensor], TeacherOutput] | None) -> None:
        """Make what the losses train and remember, by a dry forward pass; `ask` gives the teacher's on (B, ...)."""
        batches, train = context.batches, context.batches.split
        remembers = next((loss.name() for loss in self._losses if loss.knows_samples), None)
        if remembers is not None and batches.mixes:
            raise UsageError(
                f"the distillation loss {remembers} remembers what each sample is, but an augmentation mixes samples; "
                "leave out mixup, or use another loss"
            )
        if self._pairs:
            self._positions = train.positions
        self._taps.open()
        if not self._pairs or ask is None:
            return
        inputs = batches.transform(train.inputs[:2].to(train.device))
        with evaluating(context.module), torch.no_grad():
            context.module(inputs)
        own, other = self._taps.take(), ask(inputs).features
        targets, numbers = train.targets.to(train.device), torch.arange(len(train), device=train.device)
        for number, pairs in self._pairs.items():
            loss = self._losses[number]
            assert isinstance(loss, FeatureLoss)
            shapes = FeatureShapes(
                outputs=batches.outputs,
                samples=len(train),
                targets=targets,
                indices=numbers,
                student=tuple(tuple(own[path].shape[1:]) for path, _ in pairs),
                teacher=tuple(tuple(other[path].shape[1:]) for _, path in pairs),
            )
            seed = derive(batches.seed, "distillation", number)
            with own_random_numbers(train.device):
                torch.manual_seed(seed)
                state = loss.init(shapes, seed)
            if state is not None:
                self._states[number] = state.to(train.device)

    def loss(
        self,
        batch: Batch,
        outputs: Tensor,
        teacher: TeacherOutput | None,
        label_loss: Callable[[], Tensor],
        step_info: StepInfo,
    ) -> Tensor:
        """The weighted sum, (). What weighs nothing at this step is not computed."""
        own: Mapping[str, Tensor] = self._taps.take() if self._pairs else {}
        other = {} if teacher is None else teacher.features
        numbers = self._positions[batch.indices].to(outputs.device) if self._pairs else batch.indices
        total = outputs.new_zeros(())
        for number, loss in enumerate(self._losses):
            factor = loss.schedule.factor(step_info.step, step_info.steps, step_info.steps_per_epoch)
            weight = loss.weight * factor
            if weight == 0.0:
                continue
            pairs = self._pairs.get(number, ())
            inputs = LossInputs(
                student=outputs,
                teacher=outputs.detach() if teacher is None else teacher.outputs,
                targets=batch.targets,
                weights=batch.weights,
                indices=numbers,
                task=self._task,
                label_loss=label_loss,
                student_features=tuple(own[path] for path, _ in pairs),
                teacher_features=tuple(other[path] for _, path in pairs),
            )
            total = total + weight * loss.loss(inputs, self._states.get(number))
        return total

    def parameters(self) -> list[nn.Parameter]:
        """What the losses train beside the student."""
        return [item for state in self._states.values() for item in state.parameters() if item.requires_grad]

    def close(self) -> None:
        """Take the hooks off the student."""
        self._taps.close()

    def state(self) -> LossStates:
        """What the losses remember."""
        return {str(number): state.state_dict() for number, state in self._states.items()}

    def load_state(self, states: LossStates) -> None:
        """Go on from what `state` gave."""
        for number, state in self._states.items():
            state.load_state_dict(states[str(number)])


class TaughtState(TypedDict):
    """What a criterion of one teacher output a batch goes on from."""

    losses: LossStates


class TaughtCriterion(Criterion):
    """Base of the criteria that compare a student with one teacher output for each batch."""

    def __init__(self, settings: Guidance, task: Task) -> None:
        self._settings, self._task = settings, task
        self._losses: WeightedLosses

    @abstractmethod
    def teacher_output(self, batch: Batch, step_info: StepInfo) -> TeacherOutput:
        """What the batch is compared with."""

    def loss(self, batch: Batch, outputs: Tensor, label_loss: Callable[[], Tensor], step_info: StepInfo) -> Tensor:
        """See the base class."""
        teacher = self.teacher_output(batch, step_info) if self._settings.needs_teacher else None
        return self._losses.loss(batch, outputs, teacher, label_loss, step_info)

    def parameters(self) -> Sequence[nn.Parameter]:
        """See the base class."""
        return self._losses.parameters()

    def close(self) -> None:
        """See the base class."""
        self._losses.close()

    def state(self) -> TaughtState:
        """See the base class."""
        return {"losses": self._losses.state()}

    def load_state(self, state: TaughtState) -> None:
        """See the base class."""
        self._losses.load_state(state["losses"])


def _check(loss: DistillationLoss, task: Task) -> None:
    """Raise UsageError for a loss that does not go with the task."""
    if task not in loss.tasks:
        raise UsageError(
            f"the distillation loss {loss.name()} is made for {' and '.join(loss.tasks)}, but the task is {task}; use "
            f"{'mse' if task == 'regression' else 'soft_targets'}"
        )
    if task != "classification" and getattr(loss, "standardize", False):
        raise UsageError(
            f"{loss.name()}.standardize is about the logits of classes, but the task is {task}; leave it out"
        )


def _paired(loss: FeatureLoss, student: nn.Module, teacher: nn.Module | None) -> tuple[tuple[str, str], ...]:
    """(the student's path, the teacher's) for each tap of a loss."""
    if teacher is None:
        raise UsageError(f"the distillation loss {loss.name()} compares features, but there is no teacher with any")
    own = resolve(student, loss.taps, "student")
    other = resolve(teacher, loss.teacher_taps or loss.taps, "teacher")
    if len(own) != len(other):
        raise UsageError(
            f"the distillation loss {loss.name()} taps {len(own)} modules of the student ({', '.join(own)}), but "
            f"{len(other)} of the teacher ({', '.join(other)}); name one for each"
        )
    return tuple(zip(own, other, strict=True))
