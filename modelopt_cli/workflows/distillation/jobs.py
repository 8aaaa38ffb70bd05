"""Who is trained on the way to a student, in which order: teachers, assistants, the student alone, its generations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from modelopt_cli.core.seeds import derive

if TYPE_CHECKING:
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.distillation.settings import DistillationSettings, LearnerSettings, TeacherSettings
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.workflows.distillation.trained_model import TrainedModel

STUDENT, ALONE = "student", "student alone"
Role = Literal["given", "teacher", "assistant", "alone", "student"]


@dataclass(frozen=True)
class TrainingJob:
    """One model of a distillation. `experiment` holds its own model, training and augmentation."""

    name: str
    role: Role
    experiment: Experiment
    seed: int
    taught_by: tuple[str, ...] = ()  # names of members; none: it learns from the targets, or itself
    settings: TeacherSettings | None = None  # of a teacher

    def given(self, prepared: Prepared) -> TrainedModel:
        """A teacher that is there already."""
        from modelopt_cli.workflows.distillation.teachers import given

        assert self.settings is not None
        return given(self.settings, self.name, self.seed, prepared, self.experiment.consent)

    @property
    def distilled(self) -> bool:
        """Whether it descends the distillation's losses."""
        return self.role in ("assistant", "student")


def members(experiment: Experiment, seed: int, *, baseline: bool) -> list[TrainingJob]:
    """In the order of training; the student comes last. `baseline`: the student alone is wanted."""
    settings = experiment.require_distillation()
    teachers = _teachers(experiment, settings, seed)
    found = list(teachers)
    source = tuple(teacher.name for teacher in teachers)
    alone = TrainingJob(ALONE, "alone", experiment, seed)
    if baseline or not (source or settings.ema or settings.mutual):
        found.append(alone)
    for place, learner in enumerate(settings.assistants, start=1):
        name = "assistant" if len(settings.assistants) == 1 else f"assistant {place}"
        own = _own(learner, experiment)
        number = learner.seed if learner.seed is not None else derive(seed, "assistant", place)
        found.append(TrainingJob(name, "assistant", own, number, source))
        source = (name,)
    if not source and settings.generations is not None:
        source = (ALONE,)
    generations = settings.generations or 1
    for place in range(1, generations + 1):
        last = place == generations
        first_seed = seed if last and source != (ALONE,) else derive(seed, "generation", place)
        found.append(TrainingJob(STUDENT if last else f"generation {place}", "student", experiment, first_seed, source))
        source = (found[-1].name,)
    return found


def _teachers(experiment: Experiment, settings: DistillationSettings, seed: int) -> list[TrainingJob]:
    given: Sequence[TeacherSettings] = settings.given_teachers
    found = []
    for place, teacher in enumerate(given, start=1):
        name = "teacher" if len(given) == 1 else f"teacher {place}"
        number = teacher.seed if teacher.seed is not None else derive(seed, name)
        own = _own(teacher, experiment) if teacher.trained_here else experiment
        found.append(TrainingJob(name, "teacher" if teacher.trained_here else "given", own, number, settings=teacher))
    return found


def _own(learner: LearnerSettings, experiment: Experiment) -> Experiment:
    """The experiment with the learner's model, training and augmentation."""
    data = experiment.require_data()
    if learner.augment is not None:
        data = data.model_copy(update={"augment": learner.augment})
    training = learner.training or experiment.training
    return experiment.model_copy(update={"model": learner.model, "training": training, "data": data})


def shared_seed(member: TrainingJob, seed: int) -> TrainingJob:
    """A teacher of a search, which has the experiment's own seed in every trial, unless it has one of its own."""
    fixed = member.settings is not None and member.settings.seed is not None
    return member if member.role != "teacher" or fixed else replace(member, seed=derive(seed, member.name))
