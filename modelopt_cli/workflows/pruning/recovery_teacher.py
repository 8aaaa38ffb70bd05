"""The criterion by which a pruned model recovers: the model as it was before pruning, or another finished teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelopt_cli.core.errors import UsageError
from modelopt_cli.distillation.losses import FeatureLoss
from modelopt_cli.models.duplicates import duplicate
from modelopt_cli.pruning.structures import UnitStructure
from modelopt_cli.workflows.distillation.criteria import teacher_criterion
from modelopt_cli.workflows.distillation.teachers import given
from modelopt_cli.workflows.runs.torch import trainer_of
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.training.criterion import Criterion


def recovery_criterion(
    experiment: Experiment, prepared: Prepared, dense: Callable[[], nn.Module | None], seed: int
) -> Criterion | None:
    """None where the recovery learns from labels alone. `dense`: the model as it was before pruning."""
    settings = experiment.require_pruning().guidance
    if settings is None:
        return None
    if settings.teacher is not None:
        teacher = given(settings.teacher, "teacher", seed, prepared, experiment.consent).module(prepared)
    else:
        before = dense()
        assert before is not None
        teacher = duplicate(before)
    return teacher_criterion(settings, [teacher], prepared)


def check_recovery(experiment: Experiment) -> None:
    """Raise UsageError (or InputError, RefusedError) for what a recovery by a teacher would meet after the training."""
    import torch

    from modelopt_cli.training.settings import TrainingSettings

    pruning = experiment.require_pruning()
    if pruning.guidance is None:
        return
    meanwhile = any(len(stage.marks) > 1 for stage in pruning.schedule.stages(0.5))
    for loss in pruning.guidance.losses:
        sized = isinstance(loss, FeatureLoss) and type(loss).init is not FeatureLoss.init
        if sized and meanwhile and isinstance(pruning.structure, UnitStructure):
            raise UsageError(
                f"the distillation loss {loss.name()} trains something of the features' size, but with the schedule "
                f"{pruning.schedule.name()} units go while the model recovers; use the schedule rounds, or another loss"
            )
    prepared, seed = data_cache.prepared_data(experiment), experiment.seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = experiment.require_model().build(prepared.shapes, seed)
        criterion = recovery_criterion(experiment, prepared, lambda: module, seed)
        settings = pruning.recovery_over(experiment.training or TrainingSettings())
        assert criterion is not None
        assert settings is not None
        trainer_of(experiment, prepared, module, settings, seed=seed, criterion=criterion)
        criterion.close()
