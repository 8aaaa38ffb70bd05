"""Who is trained on the way to a student, in which order: teachers, assistants, the student alone, its generations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modelopt_cli.core.seeds import derive
from modelopt_cli.training.settings import TrainingSection
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from modelopt_cli.distillation.settings import DistillationSettings, LearnerSettings, TeacherSettings
    from modelopt_cli.experiment.experiment import Experiment

STUDENT, ALONE = "student", "student alone"
Role = Literal["given", "teacher", "assistant", "alone", "student"]

_DECIDING = {"losses", "combine", "cache", "teachers", "ema", "mutual"}
"""Keys of the section that decide on what a student becomes, beside who its teachers are."""


@dataclass(frozen=True)
class TrainingJob:
    """One model of a distillation: to be trained, or (role `given`) there already.

    `experiment` holds its own model, training and augmentation.
    """

    name: str
    role: Role
    experiment: Experiment
    seed: int
    taught_by: tuple[str, ...] = ()  # names of jobs; none: it learns from the targets, or itself
    settings: TeacherSettings | None = None  # of a teacher

    @property
    def distilled(self) -> bool:
        """Whether it descends the distillation's losses."""
        return self.role in ("assistant", "student")


def training_jobs(experiment: Experiment, seed: int, *, baseline: bool) -> list[TrainingJob]:
    """In the order of training; the student comes last. `baseline`: the student alone is wanted."""
    settings = experiment.require_distillation()
    jobs = _teachers(experiment, settings, seed)
    source = tuple(teacher.name for teacher in jobs)
    alone = TrainingJob(ALONE, "alone", experiment, seed)
    if baseline or not (source or settings.ema or settings.mutual):
        jobs.append(alone)
    for number, learner in enumerate(settings.assistants, start=1):
        name = "assistant" if len(settings.assistants) == 1 else f"assistant {number}"
        own_seed = learner.seed if learner.seed is not None else derive(seed, "assistant", number)
        jobs.append(TrainingJob(name, "assistant", _of_learner(learner, experiment), own_seed, source))
        source = (name,)
    if not source and settings.generations is not None:
        source = (ALONE,)
    generations = settings.generations or 1
    for number in range(1, generations + 1):
        last = number == generations
        own_seed = seed if last and source != (ALONE,) else derive(seed, "generation", number)
        name = STUDENT if last else f"generation {number}"
        jobs.append(TrainingJob(name, "student", experiment, own_seed, source))
        source = (name,)
    return jobs


def _teachers(experiment: Experiment, settings: DistillationSettings, seed: int) -> list[TrainingJob]:
    given: Sequence[TeacherSettings] = settings.given_teachers
    jobs = []
    for number, teacher in enumerate(given, start=1):
        name = "teacher" if len(given) == 1 else f"teacher {number}"
        own_seed = teacher.seed if teacher.seed is not None else derive(seed, name)
        own = _of_learner(teacher, experiment) if teacher.trained_here else experiment
        jobs.append(TrainingJob(name, "teacher" if teacher.trained_here else "given", own, own_seed, settings=teacher))
    return jobs


def _of_learner(learner: LearnerSettings, experiment: Experiment) -> Experiment:
    """The experiment with the learner's model, training and augmentation."""
    data = experiment.require_data()
    if learner.augment is not None:
        data = data.model_copy(update={"augment": learner.augment})
    training = experiment.training if learner.training is None else TrainingSection.of(learner.training)
    return experiment.model_copy(update={"model": learner.model, "training": training, "data": data})


def with_shared_seed(job: TrainingJob, seed: int) -> TrainingJob:
    """A teacher of a search, which has the experiment's own seed in every trial, unless it has one of its own."""
    fixed = job.settings is not None and job.settings.seed is not None
    return job if job.role != "teacher" or fixed else replace(job, seed=derive(seed, job.name))


def digest(job: TrainingJob, jobs: Sequence[TrainingJob]) -> str:
    """Of all that the job's model depends on: it names its stage file. `jobs`: all of the distillation."""
    experiment = job.experiment
    by_name = {one.name: one for one in jobs}
    parts: dict[str, Any] = {
        "data": data_cache.pinned_data(experiment),
        "model": None if experiment.model is None else experiment.model.model_dump(mode="json"),
        "training": None if experiment.training is None else experiment.training.deciding(),
        "files": [stamp(path) for path in _files(job)],
        "seed": job.seed,
        "fingerprint": data_cache.prepared_data(experiment).fingerprint,
        "taught by": [digest(by_name[name], jobs) for name in job.taught_by],
    }
    if job.role != "teacher":
        settings = experiment.require_distillation()
        parts["leave out"] = list(settings.leave_out)
        if job.distilled:
            parts["guidance"] = settings.model_dump(mode="json", include=_DECIDING)
            if settings.start != "fresh":  # files of earlier versions keep their names
                parts["start"] = settings.start
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _files(job: TrainingJob) -> list[str]:
    """Files that the job's model comes from."""
    model, settings = job.experiment.require_model(), job.settings
    named = [getattr(model, field, None) for field in model.path_fields]
    named += [settings.path, settings.weights] if settings is not None and job.role == "given" else []
    return [str(path) for path in named if path]


def stamp(path: str) -> list[str | int]:
    """Changes when the file does."""
    file = Path(path)
    if not file.is_file():
        return [path]
    status = file.stat()
    return [path, status.st_size, status.st_mtime_ns]
