"""The weighted sum of distillation losses that a student descends, and what the losses train and remember."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.seeds import derive
from modelopt_cli.distillation.loss_inputs import FeatureShapes, LossInputs
from modelopt_cli.distillation.losses import DistillationLoss, FeatureLoss
from modelopt_cli.distillation.taps import Taps, resolve
from modelopt_cli.distillation.teacher_outputs import TeacherOutput
from modelopt_cli.training.copies import own_random_numbers

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.data.raw import Task
    from modelopt_cli.training.batches import Batch
    from modelopt_cli.training.criterion import CriterionContext, StepInfo


class WeightedLosses:
    """What one student learns by. `student`: its taps, `teacher_paths`: those of the teacher, in the losses' order."""

    def __init__(self, losses: Sequence[DistillationLoss], task: Task, student: nn.Module, teacher: nn.Module | None):
        """Raises UsageError for a loss that does not go with the task, and for taps that are not there."""
        for loss in losses:
            _check(loss, task)
        self._losses, self._task = tuple(losses), task
        self._pairs = {place: _paired(loss, student, teacher) for place, loss in enumerate(losses) if _taps(loss)}
        self._taps = Taps(student, [one for pairs in self._pairs.values() for one, _ in pairs], "student")
        self.teacher_paths = tuple(dict.fromkeys(other for pairs in self._pairs.values() for _, other in pairs))
        self._states: dict[int, nn.Module] = {}
        self._places = torch.zeros(0, dtype=torch.int64)

    def begin(self, context: CriterionContext, teacher_output: Callable[[Tensor], TeacherOutput] | None) -> None:
        """Make what the losses train and remember, by a dry forward pass; `teacher_output` answers inputs (B, ...)."""
        train = context.train
        remembers = next((loss.name() for loss in self._losses if loss.knows_samples), None)
        if remembers is not None and context.mixes:
            raise UsageError(
                f"the distillation loss {remembers} remembers what each sample is, but an augmentation mixes samples; "
                "leave out mixup, or use another loss"
            )
        if self._pairs:
            self._places = train.places
        self._taps.open()
        if not self._pairs or teacher_output is None:
            return
        inputs = context.transform(train.inputs[:2].to(train.device))
        context.module.eval()
        with torch.no_grad():
            context.module(inputs)
        own, taught = self._taps.take(), teacher_output(inputs).features
        targets, numbers = train.targets.to(train.device), torch.arange(len(train), device=train.device)
        for place, pairs in self._pairs.items():
            loss = self._losses[place]
            assert isinstance(loss, FeatureLoss)
            shapes = FeatureShapes(
                outputs=context.outputs,
                samples=len(train),
                targets=targets,
                indices=numbers,
                student=tuple(tuple(own[one].shape[1:]) for one, _ in pairs),
                teacher=tuple(tuple(taught[other].shape[1:]) for _, other in pairs),
            )
            seed = derive(context.seed, "distillation", place)
            with own_random_numbers(train.device):
                torch.manual_seed(seed)
                state = loss.init(shapes, seed)
            if state is not None:
                self._states[place] = state.to(train.device)

    def loss(
        self,
        batch: Batch,
        outputs: Tensor,
        teacher_output: TeacherOutput | None,
        label_loss: Callable[[], Tensor],
        step_info: StepInfo,
    ) -> Tensor:
        """The weighted sum, (). What weighs nothing at this step is not computed."""
        own: Mapping[str, Tensor] = self._taps.take() if self._pairs else {}
        taught = {} if teacher_output is None else teacher_output.features
        numbers = self._places[batch.indices].to(outputs.device) if self._pairs else batch.indices
        total = outputs.new_zeros(())
        for place, loss in enumerate(self._losses):
            weight = loss.weight * loss.schedule.factor(step_info.step, step_info.steps, step_info.steps_per_epoch)
            if weight == 0.0:
                continue
            pairs = self._pairs.get(place, ())
            inputs = LossInputs(
                student=outputs,
                teacher=outputs.detach() if teacher_output is None else teacher_output.outputs,
                targets=batch.targets,
                weights=batch.weights,
                indices=numbers,
                task=self._task,
                label_loss=label_loss,
                student_features=tuple(own[one] for one, _ in pairs),
                teacher_features=tuple(taught[other] for _, other in pairs),
            )
            total = total + weight * loss.loss(inputs, self._states.get(place))
        return total

    def parameters(self) -> list[nn.Parameter]:
        """What the losses train beside the student."""
        return [item for state in self._states.values() for item in state.parameters() if item.requires_grad]

    def close(self) -> None:
        """Take the hooks off the student."""
        self._taps.close()

    def state(self) -> dict[str, Any]:
        """What the losses remember."""
        return {str(place): state.state_dict() for place, state in self._states.items()}

    def load_state(self, states: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        for place, state in self._states.items():
            state.load_state_dict(states[str(place)])


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


def _taps(loss: DistillationLoss) -> bool:
    return isinstance(loss, FeatureLoss)


def _paired(loss: DistillationLoss, student: nn.Module, teacher: nn.Module | None) -> tuple[tuple[str, str], ...]:
    """(the student's path, the teacher's) for each tap of a loss."""
    assert isinstance(loss, FeatureLoss)
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
