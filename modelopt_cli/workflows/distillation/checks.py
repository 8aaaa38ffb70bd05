"""What can be checked of a distillation before anyone is trained: teachers that are there, losses, taps, the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import UsageError
from modelopt_cli.workflows.distillation.criteria import criterion_of, student_data
from modelopt_cli.workflows.distillation.jobs import TrainingJob, training_jobs
from modelopt_cli.workflows.distillation.teachers import given
from modelopt_cli.workflows.runs.torch import TorchRun
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment


def check_distillation(experiment: Experiment) -> None:
    """Raise UsageError (or InputError, RefusedError) for the first thing that would fail later."""
    settings, model = experiment.require_distillation(), experiment.require_model()
    if model.framework != "torch":
        raise UsageError(
            f"the student is {model.name()}, but distillation trains torch models (a teacher may be of scikit-learn); "
            "use another model"
        )
    if experiment.evaluation.cv is not None:
        raise UsageError(
            "a distillation is judged on the validation split, not by cross-validation; leave out evaluation.cv"
        )
    experiment.require_training()
    prepared = student_data(experiment)
    modules: dict[str, nn.Module] = {}
    for job in training_jobs(experiment, experiment.seed, baseline=settings.baseline):
        job.experiment.require_model().check()
        modules[job.name] = untrained(job, experiment)
        if job.distilled:
            _check_distilled(job, [modules[name] for name in job.taught_by], prepared)


def _check_distilled(job: TrainingJob, teachers: Sequence[nn.Module], prepared: Prepared) -> None:
    """Set its training up, with teachers as they are now, and leave it at that."""
    from modelopt_cli.distillation.adapting import EstimatorModule, inner
    from modelopt_cli.distillation.weighted_losses import WeightedLosses

    settings = job.experiment.require_distillation()
    if any(isinstance(part, EstimatorModule) for teacher in teachers for part in teacher.modules()):  # not fitted yet
        model = job.experiment.require_model().build(prepared.shapes, job.seed)
        WeightedLosses(settings.losses_for(prepared.task), prepared.task, model, inner(teachers[0])).close()
        return
    criterion = criterion_of(job.experiment, teachers, prepared, job.seed, Path())
    TorchRun(job.experiment, prepared, seed=job.seed, criterion=criterion)
    criterion.close()


def untrained(job: TrainingJob, experiment: Experiment) -> nn.Module:
    """The job's module in the student's place, as it is before training; a teacher that is there, as it is."""
    import torch

    from modelopt_cli.distillation.adapting import EstimatorModule

    prepared = student_data(experiment)
    if job.role == "given":
        assert job.settings is not None
        return given(job.settings, job.name, job.seed, prepared, job.experiment.consent).module(prepared)
    own = data_cache.prepared_data(job.experiment)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        model = job.experiment.require_model().build(own.shapes, job.seed)
    if job.experiment.require_model().framework == "sklearn":
        return EstimatorModule(model, own.task, own.shapes.outputs)
    module: nn.Module = model
    return module
