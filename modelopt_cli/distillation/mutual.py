"""Mutual learning: students that are trained together, each from the mean of the others.

Zhang et al., CVPR 2018. In each step all see the same batch, and each descends the losses against what the others said
before the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

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


class MutualState(TypedDict):
    """What the peers go on from: state dicts of modules and of torch's optimizers."""

    peers: list[dict[str, Any]]
    optimizers: list[dict[str, Any]]


class _Peer:
    """A network beside the student, with the losses and the optimizer that it learns by."""

    def __init__(self, module: nn.Module, losses: WeightedLosses, training: TrainingSettings) -> None:
        self.module, self.losses, self._training = module, losses, training
        self.optimizer = training.optimizer.build([item for item in module.parameters() if item.requires_grad])
        self._rates = [group["lr"] for group in self.optimizer.param_groups]

    def set_rate(self, factor: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def step(self, loss: Tensor) -> None:
        training, parameters = self._training, list(self.module.parameters())
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if training.clip_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, training.clip_value)
        if training.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, training.clip_norm)
        self.optimizer.step()


class MutualCriterion(Criterion):
    """Trains `peers` beside the student, by optimizers and rates of the same settings."""

    def __init__(self, settings: Guidance, peers: Sequence[nn.Module], task: Task) -> None:
        self.peers = list(peers)
        self._settings, self._task = settings, task
        self._context: CriterionContext
        self._student: WeightedLosses
        self._peers: list[_Peer] = []
        self._steps: list[Tensor] = []  # the peers' losses in this step

    def begin(self, context: CriterionContext) -> None:
        """See the base class."""
        self._context = context
        self._student = self._losses(context, context.module)
        self._peers = []
        for peer in self.peers:
            peer.to(context.batches.split.device)
            self._peers.append(_Peer(peer, self._losses(context, peer), context.settings))

    def _losses(self, context: CriterionContext, module: nn.Module) -> WeightedLosses:
        losses = WeightedLosses(self._settings.losses_for(self._task), self._task, module, None)
        losses.begin(context, None)
        return losses

    def loss(self, batch: Batch, outputs: Tensor, label_loss: Callable[[], Tensor], step_info: StepInfo) -> Tensor:
        """See the base class; the peers' losses are made too, from the same forward passes."""
        answers = [outputs]
        for peer in self._peers:
            peer.module.train()
            with precision(outputs.device, self._context.autocast):
                answer: Tensor = peer.module(batch.inputs)
            answers.append(answer.float())
        schedule = self._context.settings.schedule
        factor = schedule.factor(step_info.step, step_info.steps, step_info.steps_per_epoch)
        self._steps = []
        for number, peer in enumerate(self._peers, start=1):
            own = answers[number]
            on_labels = _on_labels(self._context.label_loss, own, batch)
            self._steps.append(peer.losses.loss(batch, own, _mean_without(answers, number), on_labels, step_info))
            peer.set_rate(factor)
        return self._student.loss(batch, outputs, _mean_without(answers, 0), label_loss, step_info)

    def after_step(self) -> None:
        """The student has taken its step; so do the peers."""
        for peer, loss in zip(self._peers, self._steps, strict=True):
            peer.step(loss)

    def state(self) -> MutualState:
        """See the base class."""
        return {
            "peers": [peer.module.state_dict() for peer in self._peers],
            "optimizers": [peer.optimizer.state_dict() for peer in self._peers],
        }

    def load_state(self, state: MutualState) -> None:
        """See the base class."""
        for peer, module, optimizer in zip(self._peers, state["peers"], state["optimizers"], strict=True):
            peer.module.load_state_dict(module)
            peer.optimizer.load_state_dict(optimizer)


def _mean_without(answers: Sequence[Tensor], number: int) -> TeacherOutput:
    """The mean of the others' outputs, without gradients."""
    others = [answer.detach() for other, answer in enumerate(answers) if other != number]
    return TeacherOutput(torch.stack(others).mean(0), {})


def _on_labels(loss: Loss, outputs: Tensor, batch: Batch) -> Callable[[], Tensor]:
    return lambda: loss(outputs, batch.targets, batch.weights)
