"""The Python face: the command line's functions from a notebook, without a file unless one is asked for."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

import modelopt_cli
from modelopt_cli import Experiment, Report, Study, Trial, evaluate, load, predict, train, tune
from modelopt_cli.core.errors import ExperimentError, InputError, StorageError, TrialError, UsageError

SPACE: dict[str, Any] = {"lr": {"float": [1e-4, 1], "log": True}, "kernel": ["rbf", "linear"]}
SMALL: dict[str, Any] = {
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [8]},
    "training": {"epochs": 2, "batch_size": 32, "optimizer": {"type": "adam", "lr": 0.01}},
    "tuning": {
        "objective": "maximize validation.accuracy",
        "sampler": "random",
        "trials": 3,
        "executor": "serial",
        "space": {"training.optimizer.lr": {"float": [1e-3, 0.1], "log": True}},
    },
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_public_surface() -> None:
    """What users import. A name that goes, or an argument that moves, breaks their code: think twice."""
    assert modelopt_cli.__all__ == [
        "Experiment", "Report", "Shrunk", "Study", "Trial", "__version__", "compare", "compress", "distill", "evaluate",
        "load", "pick", "predict", "prune", "shrink", "train", "tune",
    ]  # fmt: skip
    assert set(modelopt_cli.__all__) <= set(dir(modelopt_cli))
    for name in modelopt_cli.__all__:
        assert getattr(modelopt_cli, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'tunes'"):
        modelopt_cli.tunes  # noqa: B018
    arguments = {name: list(inspect.signature(getattr(modelopt_cli, name)).parameters) for name in FUNCTIONS}
    assert arguments == FUNCTIONS


FUNCTIONS = {
    "compare": ["runs", "gates", "root"],
    "load": ["source", "overrides", "trust_code"],
    "train": ["experiment", "out", "resume"],
    "tune": ["experiment", "out", "resume"],
    "pick": ["run", "where", "minimize", "maximize", "trial", "refine", "overrides", "out", "trust_code"],
    "evaluate": ["path", "split", "data", "trust_code"],
    "predict": ["path", "data", "trust_code"],
    "prune": ["experiment", "out", "resume"],
    "distill": ["experiment", "out", "resume"],
    "compress": ["experiment", "out", "resume"],
    "shrink": ["module", "inputs", "pruning", "targets", "task"],
    "Study": [
        "space", "sampler", "objective", "seed", "path",
        "constraints", "rules", "stopper", "initial", "repeats", "fingerprint", "earlier",
    ],
}  # fmt: skip


def test_train_and_tune_write_nothing(tmp_path: Path) -> None:
    experiment = load(SMALL)
    assert isinstance(experiment, Experiment)
    trained = train(experiment)
    searched = tune(experiment)
    assert list(tmp_path.iterdir()) == []
    for report in (trained, searched):
        assert isinstance(report, Report)
        assert report.status == "completed"
        assert report.model is not None
        assert 0 < report.metrics["test.accuracy"] <= 1
    assert searched.best is not None
    rows = searched.tables["trials"].rows
    at = searched.tables["trials"].columns.index("validation.accuracy")
    assert searched.best["metrics"]["validation.accuracy"] == max(row[at] for row in rows)  # type: ignore[type-var]
    assert Report.model_validate_json(searched.model_dump_json()).model_dump() == searched.model_dump()


def test_a_run_directory_on_request_and_what_can_be_done_with_it(tmp_path: Path) -> None:
    report = train(load(SMALL, ["training.epochs=3"]), out="mine")
    assert len(report.tables["curve"].rows) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"mine"}
    assert evaluate("mine/model.pt").metrics["test.accuracy"] == report.metrics["test.accuracy"]
    validation = evaluate("mine/model.pt", split="validation").metrics
    assert validation["validation.accuracy"] == report.metrics["validation.accuracy"]
    from sklearn.datasets import load_iris

    load_iris(as_frame=True).data[:7].to_csv("new.csv", index=False)
    table = predict("mine/model.pt", "new.csv")
    assert table.columns[0] == "label"
    assert len(table.rows) == 7
    with pytest.raises(UsageError, match="never overwritten"):
        train(load(SMALL), out="mine")


def test_an_interrupted_or_grown_search_is_gone_on_with() -> None:
    first = tune(load(SMALL), out="search").tables["trials"].rows
    grown = tune(load(SMALL, ["tuning.trials=5"]), out="search", resume=True).tables["trials"].rows
    assert len(grown) == 5
    assert grown[:3] == first
    with pytest.raises(UsageError, match=r"training\.epochs: 2 -> 4"):
        tune(load(SMALL, ["training.epochs=4", "tuning.trials=5"]), out="search", resume=True)


def test_mistakes_are_exceptions_of_ours() -> None:
    with pytest.raises(ExperimentError, match="modle"):
        load({**SMALL, "modle": {}})
    with pytest.raises(UsageError, match="nowhere"):
        load("nowhere.yaml")
    with pytest.raises(InputError, match="nowhere"):
        evaluate("nowhere.pt")
    with pytest.raises(UsageError, match="space"):
        tune(load({key: value for key, value in SMALL.items() if key != "tuning"}))


@pytest.mark.parametrize("path", [None, "study.sqlite"], ids=["in memory", "in a file"])
def test_ask_and_tell(tmp_path: Path, path: str | None) -> None:
    with Study(SPACE, sampler="bayesian", objective="minimize loss", seed=0, path=path) as study:
        for _ in range(8):
            trial = study.ask()
            assert isinstance(trial, Trial)
            assert set(trial.params) == {"lr", "kernel"}
            study.tell(trial, (trial.params["lr"] - 0.1) ** 2 + (trial.params["kernel"] == "linear"))
        assert study.best is not None
        assert study.best.metrics["loss"] == min(trial.metrics["loss"] for trial in study.trials)
        asked = [dict(trial.params) for trial in study.trials]
    if path is None:
        assert list(tmp_path.iterdir()) == []
        return
    with Study(SPACE, sampler="bayesian", objective="minimize loss", seed=0, path=path) as again:
        assert [dict(trial.params) for trial in again.trials] == asked
        ninth = dict(again.ask().params)
    with Study.open(path) as reopened:
        assert dict(reopened.ask().params) == ninth, "the trial under way is asked for first"
        with pytest.raises(StorageError):
            Study.open(path)
    with pytest.raises(UsageError, match="seed"):
        Study(SPACE, sampler="bayesian", objective="minimize loss", seed=1, path=path)


def test_in_memory_and_in_a_file_ask_for_the_same() -> None:
    asked = []
    for path in (None, "study.sqlite"):
        with Study(SPACE, objective="minimize loss", seed=4, path=path) as study:
            for _ in range(12):
                trial = study.ask()
                study.tell(trial, trial.params["lr"])
            asked.append([dict(trial.params) for trial in study.trials])
    assert asked[0] == asked[1]


def test_metrics_and_failures_are_told() -> None:
    study = Study(SPACE, sampler="random", objective="maximize accuracy", constraints=["size <= 10"])
    study.tell(study.ask(), {"accuracy": 0.9, "size": 5})
    study.tell(study.ask(), {"accuracy": 0.99, "size": 50})
    failed = study.tell(study.ask(), ValueError("no luck"))
    slow = study.tell(study.ask(), TrialError("timeout", "took too long"))
    absent = study.tell(study.ask(), {"size": 1})
    nothing = study.tell(study.ask(), {"accuracy": float("nan"), "size": 1})
    assert [str(trial.state) for trial in study.trials] == ["completed"] * 2 + ["failed"] * 4
    assert "no luck" in failed.reason
    assert (slow.failure, slow.reason) == ("timeout", "took too long")
    assert "accuracy" in absent.reason
    assert nothing.failure == "nan"
    assert study.best is not None
    assert study.best.number == 0, "what breaks a constraint is not best"
    with pytest.raises(UsageError, match="trial 0 is completed"):
        study.tell(0, {"accuracy": 1.0, "size": 1})
    with pytest.raises(UsageError, match="no trial 9"):
        study.tell(9, 0.5)


def test_several_objectives() -> None:
    study = Study(SPACE, sampler="random", objective=["maximize accuracy", "minimize size"])
    for accuracy, size in ((0.9, 5), (0.8, 1), (0.7, 9)):
        study.tell(study.ask(), {"accuracy": accuracy, "size": size})
    assert [trial.number for trial in study.front] == [0, 1]


def test_a_stopper_by_hand() -> None:
    study = Study({"x": [1, 2, 3, 4]}, "grid", stopper={"type": "median", "startup_trials": 2, "warmup_steps": 0})
    stopped = []
    while True:
        try:
            trial = study.ask()
        except LookupError:
            break
        loss = float(trial.params["x"])
        for step in range(1, 4):
            study.report(trial, step, loss)
            reason = study.should_stop(trial)
            if reason is not None:
                stopped.append(trial.params["x"])
                break
        study.tell(trial, loss, stopped=reason or "")
    assert stopped == [3, 4]
    assert str(study.trials[3].state) == "stopped"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"space": {"lr": {"float": [1, 0]}}}, "lr"),
        ({"space": SPACE, "sampler": "bayesain"}, "bayesian"),
        ({"space": SPACE, "objective": "loss"}, "minimize"),
        ({"space": SPACE, "initial": [{"lr": 7.0, "kernel": "rbf"}]}, "lr"),
    ],
)
def test_a_study_that_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Study(**arguments)


def test_old_names_of_a_study_still_work() -> None:
    study = Study({"x": {"float": [0.0, 1.0]}}, "random", repeats=True)
    assert study.beliefs is study.posterior
    assert study.knowledge is study.warm_start
