"""What a training checks: that module and data go together before it, and that its losses stay finite while it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from modelopt_cli.core.errors import TrialError, UsageError

if TYPE_CHECKING:
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.training.settings import TrainingSettings


def check_outputs(module: torch.nn.Module, sample: torch.Tensor, prepared: Prepared) -> None:
    """One sample (1, ...) through the module: initialises lazy layers and checks what comes out. Raises UsageError."""
    module.eval()
    with torch.no_grad():
        outputs = module(sample)
    expected = (1, prepared.shapes.outputs)
    shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if shape != expected:
        raise UsageError(
            f"the model gives {shape} for one sample, but the data need {expected} "
            f"({prepared.task} with {expected[1]} outputs); change the model's last layer"
        )


def check_finite(metrics: Mapping[str, float], epoch: int, settings: TrainingSettings) -> None:
    """Raise TrialError when a loss of the epoch is NaN or infinite."""
    for name in ("train.loss", "validation.loss"):
        if not math.isfinite(metrics.get(name, 0.0)):
            how = "NaN" if math.isnan(metrics[name]) else "infinite"
            rate = getattr(settings.optimizer, "lr", None)
            shown = "" if rate is None else f" (lr {rate:g})"
            which = "loss" if name == "train.loss" else "validation loss"
            raise TrialError(
                "nan", f"{which} became {how} in epoch {epoch}{shown}; lower the learning rate or set clip_norm"
            )


def normalises_batches(module: torch.nn.Module) -> bool:
    """Whether a batch of one sample would not do."""
    return any(isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) for layer in module.modules())
