"""How long a distillation will take: a few steps of each job, with teachers as they are before training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelopt_cli.workflows.distillation.checks import untrained
from modelopt_cli.workflows.distillation.criteria import criterion_of, student_data
from modelopt_cli.workflows.distillation.jobs import TrainingJob, training_jobs
from modelopt_cli.workflows.runs.timing import estimator_seconds, torch_seconds
from modelopt_cli.workflows.runs.torch import TorchRun
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment


def seconds_of_jobs(experiment: Experiment) -> dict[str, tuple[int, float]]:
    """(epochs, seconds) of each job that is to be trained."""
    wanted = experiment.require_distillation().baseline
    estimated: dict[str, tuple[int, float]] = {}
    for job in training_jobs(experiment, experiment.seed, baseline=wanted):
        if job.role != "given":
            if not estimated:
                _seconds(job, experiment)  # the first one pays for imports and warm-up
            estimated[job.name] = _seconds(job, experiment)
    return estimated


def _seconds(job: TrainingJob, experiment: Experiment) -> tuple[int, float]:
    prepared = data_cache.prepared_data(job.experiment) if job.role == "teacher" else student_data(experiment)
    if job.experiment.require_model().framework == "sklearn":
        return 1, estimator_seconds(job.experiment, prepared)
    epochs = job.experiment.require_training().epochs
    plain = torch_seconds(job.experiment, prepared, epochs)
    by_name = {one.name: one for one in training_jobs(experiment, experiment.seed, baseline=True)}
    teachers = [by_name[name] for name in job.taught_by]
    if not job.distilled or any(one.experiment.require_model().framework == "sklearn" for one in teachers):
        return epochs, plain  # an estimator is asked once for all samples, in seconds

    def opened(own: Experiment, shortened: Prepared) -> TorchRun:
        modules = [untrained(one, experiment) for one in teachers]
        return TorchRun(own, shortened, seed=0, criterion=criterion_of(own, modules, shortened, 0, None))

    online = torch_seconds(_uncached(job.experiment), prepared, epochs, opened)
    return epochs, plain + max(0.0, online - plain) / (epochs if _is_cached(experiment) else 1)


def _is_cached(experiment: Experiment) -> bool:
    """Whether teachers are asked in the first epoch alone."""
    settings = experiment.require_distillation()
    finished = settings.ema is None and settings.mutual is None
    repeats = settings.cache.views is not None or not experiment.require_data().augment
    return finished and repeats and settings.cache.where != "none"


def _uncached(experiment: Experiment) -> Experiment:
    """The experiment with a teacher that is asked in every step: a short run would pay for a cache in two epochs."""
    settings = experiment.require_distillation()
    cache = settings.cache.model_copy(update={"where": "none"})
    return experiment.model_copy(update={"distillation": settings.model_copy(update={"cache": cache})})
