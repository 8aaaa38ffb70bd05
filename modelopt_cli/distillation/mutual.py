"""Mutual learning: students that are trained together, each from the mean of the others.

Zhang et al., CVPR 2018. In each step all see the same batch, and each descends the losses against what the others said
before the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from modelopt_cli.distillation.teacher_outputs import TeacherOutput
from modelopt_cli.distillation.weighted_losses import WeightedLosses
from modelopt_cli.training.criterion import Criterion, CriterionContext, StepInfo
from modelopt_cli.training.inference import precision

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.data.raw import Task
    from modelopt_cli.distillation.settings import Guidance
    from modelopt_cli.training.batches import Batch
    from modelopt_cli.training.losses import Loss
    from modelopt_cli.training.settings import TrainingSettings


class MutualCriterion(Criterion):
    """Trains `peers` beside the student, by optimizers and rates of the same settings."""

    def __init__(self, settings: Guidance, peers: Sequence[nn.Module], training: TrainingSettings, task: Task) -> None:
        self.peers = list(peers)
        self._settings, self._training, self._task = settings, training, task
        self._losses: list[Tensor] = []  # of the peers, in this step

    def begin(self, context: CriterionContext) -> None:
        """See the base class."""
        device, self._autocast, self._label_loss = context.train.device, context.autocast, context.label_loss
        self._student = WeightedLosses(self._settings.losses_for(self._task), self._task, context.module, None)
        self._student.begin(context, None)
        self._objectives, self._optimizers, self._rates = [], [], []
        for peer in self.peers:
            peer.to(device)
            self._objectives.append(WeightedLosses(self._settings.losses_for(self._task), self._task, peer, None))
            self._objectives[-1].begin(context, None)
            optimizer = self._training.optimizer.build([item for item in peer.parameters() if item.requires_grad])
            self._optimizers.append(optimizer)
            self._rates.append([group["lr"] for group in optimizer.param_groups])

    def loss(self, batch: Batch, outputs: Tensor, label_loss: Callable[[], Tensor], step_info: StepInfo) -> Tensor:
        """See the base class; the peers' losses are made too, from the same forward passes."""
        answers = [outputs]
        for peer in self.peers:
            peer.train()
            with precision(outputs.device, self._autocast):
                found: Tensor = peer(batch.inputs)
            answers.append(found.float())
        factor = self._training.schedule.factor(step_info.step, step_info.steps, step_info.steps_per_epoch)
        self._losses = []
        for place, objective in enumerate(self._objectives, start=1):
            own = answers[place]
            self._losses.append(
                objective.loss(batch, own, _mean(answers, place), _on_labels(self._label_loss, own, batch), step_info)
            )
            for group, rate in zip(self._optimizers[place - 1].param_groups, self._rates[place - 1], strict=True):
                group["lr"] = rate * factor
        return self._student.loss(batch, outputs, _mean(answers, 0), label_loss, step_info)

    def after_step(self) -> None:
        """The student has taken its step; so do the peers."""
        training = self._training
        for peer, optimizer, loss in zip(self.peers, self._optimizers, self._losses, strict=True):
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            if training.clip_value is not None:
                torch.nn.utils.clip_grad_value_(peer.parameters(), training.clip_value)
            if training.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(peer.parameters(), training.clip_norm)
            optimizer.step()

    def state(self) -> Any:
        """See the base class."""
        return {
            "peers": [peer.state_dict() for peer in self.peers],
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }

    def load_state(self, state: Any) -> None:
        """See the base class."""
        for peer, found in zip(self.peers, state["peers"], strict=True):
            peer.load_state_dict(found)
        for optimizer, found in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(found)


def _mean(answers: Sequence[Tensor], place: int) -> TeacherOutput:
    """The mean of the others' outputs, without gradients."""
    others = [answer.detach() for at, answer in enumerate(answers) if at != place]
    return TeacherOutput(torch.stack(others).mean(0), {})


def _on_labels(loss: Loss, outputs: Tensor, batch: Batch) -> Callable[[], Tensor]:
    return lambda: loss(outputs, batch.targets, batch.weights)
