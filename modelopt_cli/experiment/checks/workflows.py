"""What the workflow that a file is made for would refuse: a file with a distillation is for `modelopt distill`, ..."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelopt_cli.experiment.document.marks import Marks, Problem
from modelopt_cli.experiment.examples import EXAMPLES

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment


def workflow_problems(experiment: Experiment, marks: Marks) -> list[Problem]:
    """Of a file without a search. One without a model is about models that lie in files, and has nothing to check."""
    if experiment.model is None:
        return []
    found = []
    if experiment.distillation is not None:
        found += list(_distillation(experiment, marks))
    if experiment.pruning is not None:
        takes = "pruning takes torch models"
        found += list(_unfit(experiment, marks, "pruning", "the model", takes))
    return list(dict.fromkeys(found))


def _distillation(experiment: Experiment, marks: Marks) -> Iterator[Problem]:
    takes = "distillation trains torch models (a teacher may be of scikit-learn)"
    unfit = list(_unfit(experiment, marks, "distillation", "the student", takes))
    yield from unfit
    for name in ("data", "training"):
        if not unfit and getattr(experiment, name) is None:
            rule = f"a distillation needs a {name} section"
            yield Problem(marks.key(("distillation",)), rule, f"add one, e.g. {EXAMPLES[name]}")


def _unfit(experiment: Experiment, marks: Marks, what: str, who: str, takes: str) -> Iterator[Problem]:
    model = experiment.require_model()
    if model.framework != "torch":
        yield Problem(marks.value(("model",)), f"{who} is {model.name()}, but {takes}", "use another model")
    if experiment.evaluation.cv is not None:
        rule = f"a {what} is judged on the validation split, not by cross-validation"
        yield Problem(marks.key(("evaluation", "cv")), rule, "leave out evaluation.cv")
