"""One teacher output from several teachers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional as F

from modelopt_cli.distillation.teacher_outputs import TeacherOutput

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.data.raw import Task

Combination = Literal["mean", "weighted", "confidence"]


def combined(
    answers: Sequence[TeacherOutput], how: Combination, weights: Sequence[float], targets: Tensor, task: Task
) -> TeacherOutput:
    """Their outputs as one, (B, K); features are the first teacher's.

    mean, weighted: of the logits, which is the geometric mean of the probabilities (Hinton et al., 2015, section 2).
    confidence: each sample's teachers weigh (1 - softmax of their losses on its target) / (teachers - 1) (Zhang et al.,
    ICASSP 2022, "Confidence-aware multi-teacher knowledge distillation", eq. 3).
    """
    if len(answers) == 1:
        return answers[0]
    outputs = torch.stack([answer.outputs for answer in answers])  # (teachers, B, K)
    if how == "confidence":
        losses = torch.stack([_losses(answer.outputs, targets, task) for answer in answers])  # (teachers, B)
        shares = (1.0 - torch.softmax(losses, 0)) / (len(answers) - 1)
    else:
        given = weights if how == "weighted" else [1.0] * len(answers)
        shares = outputs.new_tensor(given).div(sum(given)).unsqueeze(1)
    return TeacherOutput((outputs * shares.unsqueeze(-1)).sum(0), answers[0].features)


def _losses(outputs: Tensor, targets: Tensor, task: Task) -> Tensor:
    """(B,) of each sample."""
    if task == "classification":
        return F.cross_entropy(outputs, targets, reduction="none")
    if task == "multilabel":
        return F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(1)
    return (outputs - targets).square().mean(1)
