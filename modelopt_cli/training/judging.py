"""Judging a module that no trainer holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from modelopt_cli.training import losses
from modelopt_cli.training.batches import Split
from modelopt_cli.training.evaluation import Evaluator
from modelopt_cli.training.inference import forward, input_transform, restore_targets, scale_targets
from modelopt_cli.training.settings import TrainingSettings

if TYPE_CHECKING:
    from modelopt_cli.data.prepared import Part, Prepared
    from modelopt_cli.data.raw import Task
    from modelopt_cli.training.metrics import Metric


def judge(
    module: torch.nn.Module, prepared: Prepared, split: str, device: str, extra: Sequence[str | Metric] = ()
) -> dict[str, float]:
    """The plain loss and every metric of a module on a split: `{"test.accuracy": ...}`; empty without the split.

    A module without parameters (an estimator in a module's form) is judged on the CPU.
    """
    here = torch.device(device if next(module.parameters(), None) is not None else "cpu")
    module.to(here)
    targets = scale_targets(prepared.train.targets, prepared.preprocessing)
    train = Split(prepared.train, targets, here, resident=False)
    plain = losses.make(TrainingSettings(), prepared.task, prepared.shapes.outputs, targets, here).plain
    transform = input_transform(prepared.preprocessing, here)
    evaluator = Evaluator(module, prepared, train, plain, transform, extra=extra)
    return evaluator.measure(split)


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
    found = forward(module, split.inputs, input_transform(preprocessing, device))
    plain = losses.make(TrainingSettings(loss=loss), task, outputs, targets, device).plain
    value = float(plain(found, split.targets.to(device), None if split.weights is None else split.weights.to(device)))
    return restore_targets(found.cpu().numpy(), preprocessing), value
