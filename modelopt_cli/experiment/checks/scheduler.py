"""What a scheduler asks of the rest of the file: that its options fit the space, and that states can be copied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelopt_cli.experiment.document.marks import Marks, Path, Problem

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.tuning.space.space import Space

_PLACE: Path = ("tuning", "scheduler")


def scheduler_problems(experiment: Experiment, space: Space, marks: Marks) -> list[Problem]:
    """None for a file without a scheduler."""
    tuning = experiment.require_tuning()
    if tuning.scheduler is None:
        return []
    if tuning.scheduler.copies:
        found = list(_uncopied(experiment, marks))
        if found:
            return found
    problem = tuning.scheduler.problem(tuning.trials, space)
    rule, _, remedy = (problem or "").partition("; ")
    return [] if problem is None else [Problem(marks.value(_PLACE), rule, remedy)]


def _uncopied(experiment: Experiment, marks: Marks) -> Iterator[Problem]:
    """Where a trial's state is no training's that another one could go on from."""
    tuning = experiment.require_tuning()
    assert tuning.scheduler is not None
    name = tuning.scheduler.name()
    begins = f"the scheduler {name} lets a training go on from another one's state"
    other = "use another scheduler, such as freeze_thaw"
    if tuning.workflow != "train":
        rule = f"{begins}, which the workflow {tuning.workflow} cannot"
        yield Problem(marks.value(("tuning", "workflow")), rule, f"set tuning.workflow: train, or {other}")
    elif experiment.require_model().framework != "torch":
        rule = f"{begins}, but {experiment.require_model().name()} is fitted in one step"
        yield Problem(marks.value(("model",)), rule, "use a torch model, or no scheduler")
    if experiment.evaluation.cv is not None:
        rule = f"{begins}, but the steps of a cross-validation are whole trainings"
        yield Problem(marks.key(("evaluation", "cv")), rule, f"leave out evaluation.cv, or {other}")
    if tuning.refit is not None:
        rule = f"the best model of {name} came about by several settings, one after the other, which no refit repeats"
        yield Problem(marks.key(("tuning", "refit")), rule, "leave out tuning.refit")
    if tuning.repeats:
        rule = f"a copy of {name} is worth what its ancestors' settings made of it, so no setting can be tried again"
        yield Problem(marks.key(("tuning", "repeats")), rule, "leave out tuning.repeats")
