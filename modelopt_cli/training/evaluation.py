"""Judging a module on a split: quickly after an epoch (loss and what is monitored), fully on request."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch

from modelopt_cli.core.errors import UsageError, did_you_mean
from modelopt_cli.training import metric_names, metrics
from modelopt_cli.training.batches import Split
from modelopt_cli.training.inference import forward, restore_targets, scale_targets

if TYPE_CHECKING:
    from modelopt_cli.data.prepared import Part, Prepared
    from modelopt_cli.training.inference import Transform
    from modelopt_cli.training.losses import Loss


class Evaluator:
    """Computes metrics of `module` on the splits of `prepared`; keeps splits it has used on the device.

    In float32, whatever the precision of training: the figures are those that the saved model gives.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        prepared: Prepared,
        train: Split,
        loss: Loss,
        transform: Transform,
        *,
        extra: Sequence[str | metrics.Metric],
    ) -> None:
        self._module, self._prepared, self._loss, self._transform = module, prepared, loss, transform
        self._extra = tuple(extra)
        self._splits = {"train": train}

    def after_epoch(self, names: Collection[str]) -> dict[str, float]:
        """`validation.loss` where there is such a split, and the metrics called `names`, of train or validation."""
        found: dict[str, float] = {}
        for split in ("train", "validation"):
            wanted = [name for name in names if name.startswith(f"{split}.") and name != "train.loss"]
            if wanted or (split == "validation" and self._part(split) is not None):
                found.update(self.measure(split, [*wanted, f"{split}.loss"] if split == "validation" else wanted))
        return found

    def measure(self, split: str, wanted: Collection[str] | None = None) -> dict[str, float]:
        """The loss and every metric of `split`, or those `wanted`. Empty when there is no such split."""
        part = self._part(split)
        if part is None:
            return {}
        tensors = self._tensors(split, part)
        outputs = forward(self._module, tensors.inputs, self._transform)
        found: dict[str, float] = {}
        if wanted is None or f"{split}.loss" in wanted:
            found[f"{split}.loss"] = float(self._loss(outputs, tensors.targets, tensors.weights))
        if wanted is None or any(name != f"{split}.loss" for name in wanted):
            found.update(self._metrics(split, part, tensors, outputs, wanted))
        return found

    def check(self, names: Collection[str]) -> None:
        """Raise UsageError when one of `names` cannot be computed after each epoch."""
        known = ["loss", *metric_names.names(self._prepared.task, self._prepared.shapes.outputs)]
        known += [metric_names.metric_name(metric) for metric in self._extra]
        for name in names:
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
        self, split: str, part: Part, tensors: Split, outputs: torch.Tensor, wanted: Collection[str] | None
    ) -> dict[str, float]:
        if self._prepared.task == "classification" and wanted is not None and len(outputs):
            rest = set(wanted) - {f"{split}.loss"}
            if rest == {f"{split}.accuracy"} and outputs.shape[1] > 1:
                return {f"{split}.accuracy": _accuracy(outputs, tensors.targets, tensors.weights)}
        return metrics.compute(
            self._prepared.task,
            part.targets,
            restore_targets(outputs.cpu().numpy(), self._prepared.preprocessing),
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
    """Without leaving the device; the same number as `metrics.compute` gives."""
    right = outputs.argmax(dim=1) == targets
    if weights is None:
        return int(right.sum()) / len(right)
    weight = weights.double()
    return float((right * weight).sum() / weight.sum().clamp_min(torch.finfo(torch.float64).tiny))
