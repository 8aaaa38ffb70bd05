"""Metrics of a torch module on a split: quickly after an epoch (loss and what is monitored), fully on request.

Always in float32, whatever the precision of training: the figures are those that the saved model gives. No trainer is
needed: `evaluate` takes any module.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from modelopt_cli.core.errors import UsageError, did_you_mean
from modelopt_cli.training import losses
from modelopt_cli.training.batches import Split
from modelopt_cli.training.inference import forward, input_transform, restore_targets, scale_targets
from modelopt_cli.training.metrics import scoring
from modelopt_cli.training.metrics.answers import Answers, Keep
from modelopt_cli.training.metrics.names import metric_name, names
from modelopt_cli.training.settings import TrainingSettings

if TYPE_CHECKING:
    from modelopt_cli.data.part import Part
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.data.raw import Task
    from modelopt_cli.training.inference import Transform
    from modelopt_cli.training.losses import Loss
    from modelopt_cli.training.metrics.scoring import Metric


class Evaluator:
    """Computes metrics of modules on the splits of `prepared`; keeps splits it has used on the device."""

    def __init__(
        self,
        prepared: Prepared,
        train: Split,
        loss: Loss,
        transform: Transform,
        *,
        extra: Sequence[str | Metric],
    ) -> None:
        """`train`: the train split, where a trainer has it. `loss`: the plain one. `extra`: metrics of the user's."""
        self._prepared, self._loss, self._transform = prepared, loss, transform
        self._extra = tuple(extra)
        self._splits = {"train": train}

    def after_epoch(self, module: torch.nn.Module, monitored: Collection[str]) -> dict[str, float]:
        """`validation.loss` where there is such a split, and the metrics called `monitored`, of train or validation."""
        metrics: dict[str, float] = {}
        for split in ("train", "validation"):
            wanted = [name for name in monitored if name.startswith(f"{split}.") and name != "train.loss"]
            if wanted or (split == "validation" and self._part(split) is not None):
                metrics.update(
                    self.measure(module, split, [*wanted, f"{split}.loss"] if split == "validation" else wanted)
                )
        return metrics

    def measure(
        self,
        module: torch.nn.Module,
        split: str,
        wanted: Collection[str] | None = None,
        keep: Keep | None = None,
    ) -> dict[str, float]:
        """The loss and every metric of `split`, or those `wanted`; empty when there is no such split.

        `module` may be any that takes the data, on the train split's device. `keep` is given the answers.
        """
        part = self._part(split)
        if part is None:
            return {}
        tensors = self._tensors(split, part)
        outputs = forward(module, tensors.inputs, self._transform)
        metrics: dict[str, float] = {}
        if wanted is None or f"{split}.loss" in wanted:
            metrics[f"{split}.loss"] = float(self._loss(outputs, tensors.targets, tensors.weights))
        if wanted is None or any(name != f"{split}.loss" for name in wanted):
            metrics.update(self._metrics(split, part, tensors, outputs, wanted, keep))
        return metrics

    def check(self, monitored: Collection[str]) -> None:
        """Raise UsageError when one of `monitored` cannot be computed after each epoch."""
        known = ["loss", *names(self._prepared.task, self._prepared.shapes.outputs)]
        known += [metric_name(metric) for metric in self._extra]
        for name in monitored:
            split, _, metric = name.partition(".")
            if split not in ("train", "validation"):
                raise UsageError(f"'{name}' cannot be monitored: epochs are judged on train and validation only")
            if split == "validation" and self._part(split) is None:
                raise UsageError(
                    f"'{name}' is monitored, but the validation split is empty; "
                    "set data.splits.validation (e.g. 0.2), or leave out patience and keep: best"
                )
            if metric not in known:
                raise UsageError(
                    f"'{name}' is monitored, but {self._prepared.task} has no such metric."
                    f"{did_you_mean(metric, known)} Known: {', '.join(known)}"
                )

    def _metrics(
        self,
        split: str,
        part: Part,
        tensors: Split,
        outputs: torch.Tensor,
        wanted: Collection[str] | None,
        keep: Keep | None,
    ) -> dict[str, float]:
        if self._prepared.task == "classification" and wanted is not None and len(outputs):
            rest = set(wanted) - {f"{split}.loss"}
            if rest == {f"{split}.accuracy"} and outputs.shape[1] > 1:
                return {f"{split}.accuracy": _accuracy(outputs, tensors.targets, tensors.weights)}
        answers = restore_targets(outputs.cpu().numpy(), self._prepared.preprocessing)
        if keep is not None:
            keep(Answers(self._prepared.task, part.targets, answers))
        return scoring.compute(
            self._prepared.task,
            part.targets,
            answers,
            prefix=f"{split}.",
            weights=part.weights,
            extra=self._extra,
            classes=self._prepared.shapes.outputs,
            wanted=wanted,
        )

    def _part(self, split: str) -> Part | None:
        return getattr(self._prepared, split)  # type: ignore[no-any-return]

    def _tensors(self, split: str, part: Part) -> Split:
        if split not in self._splits:
            train = self._splits["train"]
            targets = scale_targets(part.targets, self._prepared.preprocessing)
            self._splits[split] = Split(part, targets, train.device, train.resident)
        return self._splits[split]


def _accuracy(outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> float:
    """Without leaving the device; the same number as `scoring.compute` gives."""
    right = outputs.argmax(dim=1) == targets
    if weights is None:
        return int(right.sum()) / len(right)
    weight = weights.double()
    return float((right * weight).sum() / weight.sum().clamp_min(torch.finfo(torch.float64).tiny))


def evaluate(
    module: torch.nn.Module,
    prepared: Prepared,
    split: str,
    device: str,
    extra: Sequence[str | Metric] = (),
    keep: Keep | None = None,
) -> dict[str, float]:
    """The plain loss and every metric of a module on a split: `{"test.accuracy": ...}`; empty without the split.

    `keep` is given the answers. A module without parameters (an estimator in a module's form) is evaluated on the CPU.
    """
    here = torch.device(device if next(module.parameters(), None) is not None else "cpu")
    module.to(here)
    targets = scale_targets(prepared.train.targets, prepared.preprocessing)
    train = Split(prepared.train, targets, here, resident=False)
    plain = losses.make(TrainingSettings(), prepared.task, prepared.shapes.outputs, targets, here).plain
    transform = input_transform(prepared.preprocessing, here)
    return Evaluator(prepared, train, plain, transform, extra=extra).measure(module, split, keep=keep)


def outputs_and_loss(
    module: torch.nn.Module,
    part: Part,
    preprocessing: Mapping[str, Any],
    task: Task,
    outputs: int,
    loss: Literal["auto", "cross_entropy", "bce", "mse", "mae", "huber"] = "auto",
) -> tuple[np.ndarray[Any, Any], float]:
    """(logits, or values in the targets' own units, (N, outputs); the plain loss, in the unit that training reports).

    `preprocessing`: its plain form, as a model.pt holds it. `loss`: as the training section names it.
    """
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    targets = scale_targets(part.targets, preprocessing)
    split = Split(part, targets, device, resident=False)
    answers = forward(module, split.inputs, input_transform(preprocessing, device))
    plain = losses.make(TrainingSettings(loss=loss), task, outputs, targets, device).plain
    weights = None if split.weights is None else split.weights.to(device)
    value = float(plain(answers, split.targets.to(device), weights))
    return restore_targets(answers.cpu().numpy(), preprocessing), value
