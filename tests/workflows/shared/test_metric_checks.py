"""What a run is said to report is what it reports: every workflow, kind of model and task, run small and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelopt_cli.experiment.expected_metrics import GAP, DataFacts, Workflow, expect_metrics
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.results.report import Report
from modelopt_cli.workflows import distill, prune, train, tune
from modelopt_cli.workflows.shared import costs, metric_checks
from modelopt_cli.workflows.shared.context import Context

SPLITS = {"validation": 0.3, "test": 0.3, "seed": 0}
MLP = {"type": "mlp", "hidden": [6]}
TRAINING = {"epochs": 2, "batch_size": 32}
TREE = {"type": "sklearn", "estimator": "sklearn.tree.DecisionTreeClassifier", "max_depth": 2}
RIDGE = {"type": "sklearn", "estimator": "sklearn.linear_model.Ridge"}
TEACHER = {"model": MLP, "training": {"epochs": 8}}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "SECONDS", 0.01)


def binary() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(120, 4))
    return inputs, (inputs[:, 0] + 0.5 * rng.normal(size=120) > 0).astype(np.int64)


def labels() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(120, 4))
    return inputs, (inputs[:, :2] + 0.5 * rng.normal(size=(120, 2)) > 0).astype(np.int64)


def numbers() -> tuple[Any, Any]:
    inputs = np.random.default_rng(0).normal(size=(120, 4))
    return inputs, inputs[:, 0] - inputs[:, 1] ** 2


def cost(targets: Any, predictions: Any) -> float:
    return float(np.abs(targets - predictions).sum())


def own(name: str, task: str = "auto") -> dict[str, Any]:
    return {"type": "python", "target": f"{__name__}:{name}", "folder": str(Path(__file__).parent), "task": task}


DATA: dict[str, dict[str, Any]] = {
    "iris": {"type": "iris"},
    "breast_cancer": {"type": "breast_cancer"},
    "diabetes": {"type": "diabetes"},
    "binary": own("binary"),
    "labels": own("labels"),
    "numbers": own("numbers", "regression"),
}
FOREST = {"type": "sklearn", "estimator": "sklearn.ensemble.RandomForestRegressor", "n_estimators": 5}
LABELLER = {"type": "sklearn", "estimator": "sklearn.ensemble.RandomForestClassifier", "n_estimators": 5}
PRUNING = {"amount": 0.3, "recovery": {"epochs": 1}}
UNITS = {"structure": "neurons", "importance": "l1", "amount": 0.3}


def experiment(kind: str, **sections: Any) -> Experiment:
    document = {"name": "foreseen", "data": {**DATA[kind], "splits": SPLITS}, "model": MLP, "training": TRAINING}
    return Experiment.load({**document, **sections})


def known(chosen: Experiment) -> DataFacts:
    """With what only a fitted estimator tells."""
    return metric_checks.learn(chosen, {"validation.log_loss"})


def assert_foreseen(chosen: Experiment, report: Report, workflow: Workflow, *, searched: bool = False) -> None:
    before = expect_metrics(chosen, workflow, searched=searched)
    assert before is not None
    exact = expect_metrics(chosen, workflow, searched=searched, facts=known(chosen))
    assert exact is not None
    reported = {name for name in report.metrics if not name.endswith(GAP)}  # undefined where there is no gap
    assert reported == {name for name in exact.possible if not name.endswith(GAP)}
    assert set(report.metrics) <= exact.possible <= before.possible
    assert before.certain <= exact.possible


@pytest.mark.slow
@pytest.mark.parametrize("cv", [None, 3])
@pytest.mark.parametrize("data", ["iris", "breast_cancer", "diabetes", "binary", "labels", "numbers"])
def test_trainings_of_modules(data: str, cv: int | None) -> None:
    chosen = experiment(data, evaluation={"cv": cv, "metrics": [f"{__name__}:cost"] if data == "numbers" else []})
    assert_foreseen(chosen, train.run(chosen, Context()), "train")


@pytest.mark.slow
@pytest.mark.parametrize("cv", [None, 3])
@pytest.mark.parametrize(
    ("data", "model"),
    [
        ("iris", TREE),
        ("breast_cancer", TREE),
        ("breast_cancer", {"type": "sklearn", "estimator": "sklearn.svm.LinearSVC"}),
        ("iris", {"type": "sklearn", "estimator": "sklearn.svm.SVC"}),
        ("iris", {"type": "sklearn", "estimator": "sklearn.neighbors.NearestCentroid"}),
        ("diabetes", RIDGE),
        ("binary", TREE),
        ("labels", LABELLER),
        ("numbers", FOREST),
    ],
)
def test_trainings_of_estimators(data: str, model: dict[str, Any], cv: int | None) -> None:
    chosen = experiment(data, model=model, training=None, evaluation={"cv": cv})
    report = train.run(chosen, Context())
    if model["estimator"].endswith("NearestCentroid"):  # what it can say depends on scikit-learn's version
        assert set(report.metrics) <= expect_metrics(chosen, "train").possible  # type: ignore[union-attr]
        return
    assert_foreseen(chosen, report, "train")


@pytest.mark.slow
@pytest.mark.parametrize("data", ["iris", "breast_cancer", "diabetes", "labels"])
@pytest.mark.parametrize("pruning", [PRUNING, UNITS], ids=["weights", "units"])
def test_prunings(data: str, pruning: dict[str, Any]) -> None:
    chosen = experiment(data, pruning=pruning)
    assert_foreseen(chosen, prune.run(chosen, Context()), "prune")


@pytest.mark.parametrize("data", ["iris", "diabetes", "labels"])
def test_distillations(data: str) -> None:
    losses = {"losses": [{"type": "labels"}, {"type": "mse" if data == "diabetes" else "mse_logits"}]}
    chosen = experiment(data, distillation={"teacher": TEACHER, **losses})
    assert_foreseen(chosen, distill.run(chosen, Context()), "distill")


def test_without_a_student_alone_or_a_teacher_there_is_no_gap() -> None:
    alone = experiment("iris", distillation={"teacher": TEACHER, "baseline": False})
    itself = experiment("iris", distillation={"ema": {}})
    for chosen in (alone, itself):
        assert_foreseen(chosen, distill.run(chosen, Context()), "distill")
        expected = expect_metrics(chosen, "distill")
        assert expected is not None
        assert not any(name.endswith(GAP) for name in expected.possible)
    searched = expect_metrics(alone, "distill", searched=True)  # where an objective asks for it, it is trained
    assert searched is not None
    assert "validation.gap_closed" in searched.possible


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workflow", "sections"),
    [
        ("train", {}),
        ("train", {"evaluation": {"cv": 2}}),
        ("train", {"model": TREE, "training": None}),
        ("train", {"model": TREE, "training": None, "evaluation": {"cv": 2}}),
        ("train", {"tuning": {"fidelity": {"least": 0.3}, "stopper": "asha"}}),
        ("prune", {"pruning": PRUNING}),
        ("prune", {"pruning": UNITS}),
        ("distill", {"distillation": {"teacher": TEACHER}}),
    ],
)
def test_searches(workflow: Workflow, sections: dict[str, Any]) -> None:
    paths = {"train": "training.optimizer.lr", "prune": "pruning.amount", "distill": "training.optimizer.lr"}
    space: dict[str, Any] = {paths[workflow]: {"float": [0.1, 0.5]}}
    if sections.get("model") is TREE:
        space = {"model.max_depth": [1, 2, 3]}
    tuning = {
        "workflow": workflow,
        "objective": "maximize validation.accuracy",
        "sampler": "random",
        "executor": "serial",
        "trials": 2,
        "space": space,
    }
    chosen = experiment("iris", **{**sections, "tuning": {**tuning, **sections.get("tuning", {})}})
    report = tune.run(chosen, Context())
    if sections.get("model") is TREE and "evaluation" in sections:  # folds are judged by what somebody looks at
        foreseen = expect_metrics(chosen, "train", searched=True)
        assert foreseen is not None
        asked = {name for name in foreseen.possible if name.startswith("validation.")}
        chosen = chosen.with_values({"gates": [f"{name} >= 0" for name in sorted(asked)]})
        assert {name for name in report.metrics if name.startswith("validation.")} < asked
        report = tune.run(chosen, Context())
    assert_foreseen(chosen, report, workflow, searched=True)


@pytest.mark.parametrize("splits", [{"validation": 0.3, "test": 0}, {"validation": 0, "test": 0.3}, {"validation": 0}])
def test_splits_that_there_are(splits: dict[str, Any]) -> None:
    for model, training in ((MLP, TRAINING), (TREE, None)):
        chosen = experiment("iris", data={"type": "iris", "splits": splits}, model=model, training=training)
        assert_foreseen(chosen, train.run(chosen, Context()), "train")


def test_several_seeds_report_the_same_names() -> None:
    chosen = experiment("iris", seeds=2)
    assert_foreseen(chosen, train.run(chosen, Context()), "train")


def test_reports_under_way_hold_what_is_said_of_them() -> None:
    """So that a stopper's metric is refused where no report would ever hold it."""
    wanted = ["validation.f1", "validation.loss"]
    from modelopt_cli.workflows.factory import open_pruning
    from modelopt_cli.workflows.runs.opening import open_run

    for chosen, run in (
        (plain := experiment("iris"), open_run(plain, 0, wanted=wanted)),
        (small := experiment("iris", pruning=PRUNING), open_pruning(small, 0, wanted=wanted)),
        (less := experiment("iris", pruning=UNITS), open_pruning(less, 0, wanted=wanted)),
        (tree := experiment("iris", model=TREE, training=None), open_run(tree, 0, wanted=wanted)),
    ):
        expected = expect_metrics(chosen, "prune" if chosen.pruning is not None else "train")
        assert expected is not None
        reported = {name for _, metrics in run.advance(run.total) for name in metrics}
        assert reported <= expected.early
        assert "validation.f1" in reported
