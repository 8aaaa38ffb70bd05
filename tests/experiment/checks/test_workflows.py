"""Files that lack what their workflow needs, or that have what it cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.experiment.experiment import Experiment
from tests.support.bad_experiments import Mistake, check_mistake, outcome

MISTAKES: list[Mistake] = [
    (("sampler: random", "workflow: command"), "x.yaml:16:13", "the workflow command needs a command section"),
    (
        (
            "training:\n  epochs: 30\n  batch_size: 64\n  optimizer: {type: sgd, lr: 0.05, momentum: 0.9}\n"
            "  schedule: cosine\n",
            "",
        ),
        "x.yaml:9:1",
        "the workflow train needs a training section",
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake[2][:50] for mistake in MISTAKES])
def test_each_mistake(tmp_path: Path, mistake: Mistake) -> None:
    check_mistake(tmp_path, mistake)


def test_train_for_an_estimator_needs_no_training_section() -> None:
    values = {
        "data": "iris",
        "model": {"type": "sklearn", "estimator": "sklearn.svm.SVC"},
        "tuning": {"objective": "maximize validation.accuracy", "space": {"model.C": {"float": [0.1, 10.0]}}},
    }
    assert Experiment.load(values).tuning is not None


TREE = {"type": "sklearn", "estimator": "sklearn.tree.DecisionTreeClassifier"}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"model": TREE}, "the student is sklearn, but distillation trains torch models"),
        ({"evaluation": {"cv": 3}}, "a distillation is judged on the validation split"),
        ({"training": None}, "a distillation needs a training section"),
        ({"data": None}, "a distillation needs a data section"),
        ({"distillation": None, "pruning": {"amount": 0.5}, "model": TREE}, "the model is sklearn, but pruning takes"),
        ({"distillation": None, "pruning": {"amount": 0.5}, "evaluation": {"cv": 3}}, "a pruning is judged on"),
    ],
)
def test_validate_refuses_what_the_files_workflow_would(changes: dict[str, Any], rule: str) -> None:
    whole: dict[str, Any] = {
        "data": {"type": "digits", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
        "model": {"type": "mlp", "hidden": [8]},
        "training": {"epochs": 1, "optimizer": "adam"},
        "distillation": {"teacher": {"model": TREE}},
    }
    assert outcome(lambda: Experiment.load(whole))[1] == ""
    changed = {key: value for key, value in {**whole, **changes}.items() if value is not None}
    assert rule in outcome(lambda: Experiment.load(changed))[1]
