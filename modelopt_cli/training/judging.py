"""Judging a module that no trainer holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from modelopt_cli.training import losses
from modelopt_cli.training.batches import Split
from modelopt_cli.training.evaluation import Evaluator
from modelopt_cli.training.inference import input_transform, scale_targets
from modelopt_cli.training.settings import TrainingSettings

if TYPE_CHECKING:
    from modelopt_cli.data.prepared import Prepared
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
    evaluator = Evaluator(module, prepared, train, plain, transform, autocast=False, extra=extra)
    return evaluator.measure(split)
