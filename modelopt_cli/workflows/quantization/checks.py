"""What a quantization would meet after the training: a missing package, a recovery's teacher that does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelopt_cli.workflows.quantization.recovery import recovery_criterion
from modelopt_cli.workflows.runs.torch import trainer_of
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment


def check_quantization(experiment: Experiment) -> None:
    """Raise MissingExtraError, UsageError (or InputError, RefusedError) for what the run would fail with later."""
    import torch

    from modelopt_cli.training.settings import TrainingSettings

    settings = experiment.require_quantization()
    settings.method.check()
    if settings.recovery is None or settings.recovery.distillation is None:
        return
    prepared, seed = data_cache.prepared_data(experiment), experiment.seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = experiment.require_model().build(prepared.shapes, seed)
        criterion = recovery_criterion(experiment, prepared, module, seed)
        training = settings.recovery.over(experiment.training or TrainingSettings())
        assert criterion is not None
        trainer_of(experiment, prepared, module, training, seed=seed, criterion=criterion)
        criterion.close()
