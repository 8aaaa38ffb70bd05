"""What a search's trials are like, from the experiment and a measured trial: what the rules of `auto` go by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelopt_cli.experiment.expected_metrics import expect_metrics
from modelopt_cli.tuning.search.automatic import Reports, Workload
from modelopt_cli.workflows.search.model_cache import is_shared, teachers_are_shared

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.tuning.space.space import Space


def workload_of(
    experiment: Experiment, space: Space, *, trials: int | None, seconds: float | None, workers: int
) -> Workload:
    """`trials`: planned, None: until the time is up. `seconds` of a whole one, None: not known."""
    settings = experiment.require_tuning()
    reports, steps = _reported(experiment, space)
    return Workload(
        reports=reports,
        steps=steps,
        trials=trials,
        timed=settings.timeout is not None,
        seconds=seconds,
        workers=workers,
        sampler=settings.sampler.name(),
        exact=settings.sampler.exact,
        unfit=_unfit(experiment, space),
        repeats=settings.repeats,
    )


def _reported(experiment: Experiment, space: Space) -> tuple[Reports, int | None]:
    """(after what a trial reports, how often; None: a script's steps, which nobody has said)"""
    settings = experiment.require_tuning()
    if settings.workflow == "command":
        return "steps", experiment.require_command().steps
    if settings.fidelity is not None:
        return "sizes", len(settings.fidelity.sizes)
    if experiment.evaluation.cv is not None:
        return "folds", experiment.evaluation.cv * experiment.evaluation.repeats
    if experiment.require_model().framework == "sklearn":
        return "nothing", 1
    if settings.workflow == "prune":
        from modelopt_cli.workflows.pruning.phases import planned_epochs

        return "epochs", max(1, planned_epochs(experiment, shared=is_shared(experiment, space)))
    return "epochs", experiment.training.epochs if experiment.training is not None else 1


def _unfit(experiment: Experiment, space: Space) -> str:
    """Why what a trial reports on its way says little of what it comes to; empty: it says something."""
    settings = experiment.require_tuning()
    if settings.workflow == "compress":
        return "the stages of a compression report models that are not yet as small as they become"
    if settings.workflow == "prune":
        why = _of_pruning(experiment, space)
    elif settings.workflow == "distill":
        why = _of_distillation(experiment, space)
    else:
        why = ""
    expected = expect_metrics(experiment, settings.workflow, searched=True)
    late = [] if expected is None else [goal.metric for goal in settings.goals if goal.metric not in expected.early]
    return why or (f"no report tells {late[0]} before a trial's end" if late else "")


def _of_pruning(experiment: Experiment, space: Space) -> str:
    from modelopt_cli.workflows.pruning.phases import needs_training

    if needs_training(experiment) and not is_shared(experiment, space):
        return "the first steps of a trial train the model that is pruned after them"
    searched = any(path.startswith("pruning.schedule") for path in space.paths)
    if searched or experiment.require_pruning().schedule.name() != "one_shot":
        return "a model that is pruned little by little reports how it does while it is still larger than it becomes"
    return ""


def _of_distillation(experiment: Experiment, space: Space) -> str:
    section = experiment.require_distillation()
    trained = any(teacher.trained_here for teacher in section.given_teachers)
    others = (trained and not teachers_are_shared(experiment, space)) or section.assistants or section.generations
    return "the first steps of a trial train others than the student" if others else ""
