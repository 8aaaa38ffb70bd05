"""The criterion of a quantisation-aware recovery: the model in float, or another teacher, beside the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelopt_cli.models.duplicates import duplicate
from modelopt_cli.workflows.distillation.criteria import teacher_criterion
from modelopt_cli.workflows.distillation.teachers import given

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.training.criterion import Criterion


def recovery_criterion(experiment: Experiment, prepared: Prepared, dense: nn.Module, seed: int) -> Criterion | None:
    """None where the recovery learns from labels alone."""
    recovery = experiment.require_quantization().recovery
    settings = None if recovery is None else recovery.distillation
    if settings is None:
        return None
    if settings.teacher is None:
        return teacher_criterion(settings, [duplicate(dense)], prepared)
    teacher = given(settings.teacher, "teacher", seed, prepared, experiment.consent).module(prepared)
    return teacher_criterion(settings, [teacher], prepared)
