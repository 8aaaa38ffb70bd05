"""What a search's trials are like, as the rules of `auto` see them, by the workflow and the file's sections."""

from __future__ import annotations

from typing import Any

import pytest

from modelopt_cli import load
from modelopt_cli.experiment.search_space import search_space
from modelopt_cli.tuning.search.automatic import Workload
from modelopt_cli.workflows.search.workload import workload_of

LEARNING = {"training.optimizer.lr": {"float": [0.001, 0.1]}}
TRAIN: dict[str, Any] = {
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [8]},
    "training": {"epochs": 12, "batch_size": 64},
    "tuning": {"objective": "maximize validation.accuracy", "sampler": "random", "trials": 8, "space": LEARNING},
}


def made(content: dict[str, Any], *overrides: str) -> Workload:
    experiment = load(content, list(overrides))
    return workload_of(experiment, search_space(experiment), trials=8, seconds=3.0, workers=2)


def other(workflow: str, space: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return {**TRAIN, **sections, "tuning": {**TRAIN["tuning"], "workflow": workflow, "space": space}}


PRUNE = other("prune", {"pruning.amount": {"float": [0.1, 0.9]}}, pruning={"amount": 0.5, "recovery": {"epochs": 5}})
TEACHER = {"model": {"type": "mlp", "hidden": [16]}, "training": {"epochs": 2}}
DISTILL = other("distill", LEARNING, distillation={"teacher": TEACHER})
COMPRESS = other("compress", {"pruning.amount": {"float": [0.1, 0.9]}}, pruning={"amount": 0.5})
SCRIPT = {
    "command": {"argv": ["python", "train.py", "{x}"], "parameters": {"x": 1.0}},
    "tuning": {
        "workflow": "command",
        "objective": "minimize loss",
        "space": {"command.parameters.x": {"float": [0.0, 1.0]}},
    },
}
SVC = {
    **{key: value for key, value in TRAIN.items() if key != "training"},
    "model": {"type": "sklearn", "estimator": "sklearn.svm.SVC"},
    "tuning": {**TRAIN["tuning"], "space": {"model.C": {"float": [0.1, 10.0]}}},
}


@pytest.mark.parametrize(
    ("content", "overrides", "reports", "steps"),
    [
        (TRAIN, [], "epochs", 12),
        (TRAIN, ["evaluation.cv=4", "evaluation.repeats=2"], "folds", 8),
        (TRAIN, ["tuning.stopper=asha", "tuning.fidelity={}"], "sizes", 3),
        (SVC, [], "nothing", 1),
        (SVC, ["evaluation.cv=5"], "folds", 5),
        (SVC, ["tuning.stopper=asha", "tuning.fidelity={least: 0.3}"], "sizes", 2),
        (SCRIPT, [], "steps", None),
        (SCRIPT, ["command.steps=40"], "steps", 40),
        (PRUNE, [], "epochs", 5),
        (PRUNE, ["pruning.recovery=null"], "epochs", 1),
        (DISTILL, [], "epochs", 12),
    ],
)
def test_what_trials_report(content: dict[str, Any], overrides: list[str], reports: str, steps: int | None) -> None:
    workload = made(content, *overrides)
    assert (workload.reports, workload.steps) == (reports, steps)


@pytest.mark.parametrize(
    ("content", "overrides", "why"),
    [
        (TRAIN, [], ""),
        (TRAIN, ["tuning.objective=[maximize validation.accuracy, minimize model.parameters]"], ""),
        (TRAIN, ["tuning.objective=minimize train.seconds"], "no report tells train.seconds before a trial's end"),
        (SCRIPT, [], ""),
        (PRUNE, [], ""),
        (PRUNE, ["pruning.schedule=cubic"], "pruned little by little"),
        (PRUNE, ["tuning.space={pruning.schedule: [one_shot, cubic]}"], "pruned little by little"),
        (PRUNE, ["tuning.space={model.hidden.0: [8, 16]}"], "train the model that is pruned after them"),
        (PRUNE, ["tuning.objective=minimize validation.accuracy_drop"], "no report tells validation.accuracy_drop"),
        (DISTILL, [], ""),
        (DISTILL, ["tuning.space={distillation.teacher.model.hidden.0: [8, 16]}"], "train others than the student"),
        (DISTILL, ["distillation.assistants=[{model: {type: mlp, hidden: [12]}}]"], "train others than the student"),
        (DISTILL, ["tuning.objective=maximize validation.gap_closed"], "no report tells validation.gap_closed"),
        (COMPRESS, [], "stages of a compression"),
    ],
)
def test_whether_that_says_what_a_trial_comes_to(content: dict[str, Any], overrides: list[str], why: str) -> None:
    unfit = made(content, *overrides).unfit
    assert why in unfit if why else unfit == ""


def test_what_else_the_rules_look_at() -> None:
    workload = made(TRAIN, "tuning.timeout=60", "tuning.repeats=true")
    assert (workload.timed, workload.repeats, workload.sampler) == (True, True, "random")
    assert (workload.trials, workload.seconds, workload.workers, workload.exact) == (8, 3.0, 2, False)
    assert made(TRAIN, "tuning.sampler=grid", "tuning.space={model.hidden.0: [8, 16]}").exact
