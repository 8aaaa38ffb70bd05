"""The loss that training descends, and the plain one that epochs are compared by.

Both are means over samples, weighted where samples have weights; labels and outputs of one sample count alike.
The plain loss leaves out label smoothing and class weights: they are what a search varies, and a yardstick must not
change with what it measures. Regression losses are in units of the train targets' standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from modelopt_cli.core.errors import UsageError

if TYPE_CHECKING:
    from modelopt_cli.data.raw import Task
    from modelopt_cli.training.settings import TrainingSettings

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""(outputs (B, K), targets, sample weights (B,) or None) -> scalar."""

_ALLOWED = {"classification": ("cross_entropy",), "multilabel": ("bce",), "regression": ("mse", "mae", "huber")}
_VALUES: dict[str, Callable[..., torch.Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}


class Losses(NamedTuple):
    """`training` with smoothing and class weights, `plain` without."""

    training: Loss
    plain: Loss


def allowed(task: Task) -> tuple[str, ...]:
    """What training.loss may say for the task."""
    return ("auto", *_ALLOWED[task])


def make(
    settings: TrainingSettings, task: Task, outputs: int, targets: np.ndarray[Any, Any], device: torch.device
) -> Losses:
    """The losses for `task`; `targets` are the train split's, for balanced class weights.

    Raises UsageError as `check` does.
    """
    check(settings, task, outputs)
    smoothing = settings.label_smoothing
    if task == "regression":
        loss = _regression(_VALUES[_name(settings, task)])
        return Losses(loss, loss)
    weights = class_weights(settings, task, outputs, targets)
    on_device = None if weights is None else torch.as_tensor(weights, dtype=torch.float32, device=device)
    build = _cross_entropy if task == "classification" else _binary
    return Losses(build(smoothing, on_device), build(0.0, None))


def check(settings: TrainingSettings, task: Task, outputs: int) -> None:
    """Raise UsageError where loss, label smoothing or class weights do not go with the task."""
    name, given = _name(settings, task), settings.class_weights
    if name not in _ALLOWED[task]:
        raise UsageError(
            f"training.loss is '{name}', but the task is {task}; use auto or one of: {', '.join(_ALLOWED[task])}"
        )
    if task == "regression":
        if settings.label_smoothing or given is not None:
            what = "label_smoothing" if settings.label_smoothing else "class_weights"
            raise UsageError(f"training.{what} is set, but the task is regression, which has no classes; leave it out")
    elif given is not None and given != "balanced" and len(given) != outputs:
        noun = "classes" if task == "classification" else "labels"
        raise UsageError(
            f"training.class_weights has {len(given)} numbers, but there are {outputs} {noun}; write one for each"
        )


def _name(settings: TrainingSettings, task: Task) -> str:
    return _ALLOWED[task][0] if settings.loss == "auto" else settings.loss


def class_weights(
    settings: TrainingSettings, task: Task, outputs: int, targets: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any] | None:
    """(outputs,) weight of each class, or of each label's positive samples; None: all alike.

    balanced: N / (classes * members), as scikit-learn has it; for labels negatives / positives.
    """
    given = settings.class_weights
    if given is None:
        return None
    if given != "balanced":
        return np.asarray(given, np.float64)
    if task == "classification":
        members = np.bincount(targets, minlength=outputs)
        weights: np.ndarray[Any, Any] = len(targets) / (outputs * np.maximum(members, 1))
        return weights
    positives = targets.sum(axis=0)
    return np.asarray((len(targets) - positives) / np.maximum(positives, 1))


def _cross_entropy(smoothing: float, class_weight: torch.Tensor | None) -> Loss:
    """Targets (B,) classes, or (B, classes) shares as mixup gives them."""

    def loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        if weights is None:
            return F.cross_entropy(logits, targets, class_weight, label_smoothing=smoothing)
        each = F.cross_entropy(logits, targets, class_weight, reduction="none", label_smoothing=smoothing)
        total = weights if class_weight is None or targets.ndim == 2 else weights * class_weight[targets]
        return (each * weights).sum() / _positive(total.sum())

    return loss


def _binary(smoothing: float, positive_weight: torch.Tensor | None) -> Loss:
    def loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        if smoothing:
            targets = targets * (1.0 - smoothing) + 0.5 * smoothing
        if weights is None:
            return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=positive_weight)
        each = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=positive_weight, reduction="none")
        return (each.mean(dim=1) * weights).sum() / _positive(weights.sum())

    return loss


def _regression(measure: Callable[..., torch.Tensor]) -> Loss:
    def loss(values: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        if weights is None:
            return measure(values, targets)
        each = measure(values, targets, reduction="none")
        return (each.mean(dim=1) * weights).sum() / _positive(weights.sum())

    return loss


def _positive(total: torch.Tensor) -> torch.Tensor:
    """A batch whose samples all weigh nothing has loss 0, not NaN."""
    return total.clamp_min(torch.finfo(total.dtype).tiny)
