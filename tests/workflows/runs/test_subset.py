"""tuning.fidelity in whole searches: parts of the train split, the full size bit for bit, folds as steps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelopt_cli import Report, evaluate, load, train, tune
from modelopt_cli.core.errors import ExperimentError, InputError
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.models.files import checkpoints
from modelopt_cli.training import estimators
from modelopt_cli.tuning.objective import Run
from modelopt_cli.workflows.factory import ModelObjective, kept_model
from modelopt_cli.workflows.shared import data_cache

SVC: dict[str, Any] = {
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}, "standardize": True},
    "model": {"type": "sklearn", "estimator": "sklearn.svm.SVC"},
    "tuning": {
        "objective": "maximize validation.accuracy",
        "sampler": "random",
        "stopper": "asha",
        "fidelity": {},
        "trials": 6,
        "executor": "serial",
        "space": {"model.C": {"float": [0.01, 100.0], "log": True}},
    },
}
MLP: dict[str, Any] = {
    **SVC,
    "model": {"type": "mlp", "hidden": [8]},
    "training": {"epochs": 3, "batch_size": 32, "optimizer": {"type": "adam", "lr": 0.01}, "class_weights": "balanced"},
    "tuning": {**SVC["tuning"], "space": {"training.optimizer.lr": {"float": [1e-3, 0.1], "log": True}}},
}


def objective(experiment: Experiment, keep: Path | None = None) -> ModelObjective:
    tuning = experiment.require_tuning()
    return ModelObjective(experiment, tuning.goals, tuning.metrics, None if keep is None else str(keep))


def opened(experiment: Experiment, params: Any, state: Any = None) -> Run:
    return objective(experiment).open(params, 5, state)


def rows_of(report: Report) -> list[dict[str, Any]]:
    table = report.tables["trials"]
    return table.records()


@pytest.mark.parametrize("document", [SVC, MLP], ids=["estimator", "torch"])
def test_the_full_size_is_bit_for_bit_the_training_without_sizes(document: dict[str, Any], tmp_path: Path) -> None:
    path = next(iter(document["tuning"]["space"]))
    with_sizes, without = load(document), load(document, ["tuning.fidelity=null"])
    outcomes: list[dict[str, float]] = []
    models = []
    for experiment, way in ((without, [10**6]), (with_sizes, [9]), (with_sizes, [1, 2, 9])):
        keep = tmp_path / str(len(outcomes))
        keep.mkdir()
        search = objective(experiment, keep)
        run = search.open({path: 0.05}, 5)
        for until in way:
            run.advance(min(until, run.total))
        metrics = dict(run.metrics())
        search.ended(run, 5, metrics)
        assert metrics.pop("train.samples", 90.0) == 90.0
        assert metrics.pop("train.seconds") > 0
        outcomes.append(metrics)
        if document is MLP:
            models.append(checkpoints.load(kept_model(keep, 5)).model.state_dict())
    assert outcomes[0] == outcomes[1] == outcomes[2]
    for model in models:
        assert all((model[name] == models[0][name]).all() for name in models[0])


@pytest.mark.parametrize("document", [SVC, MLP], ids=["estimator", "torch"])
def test_a_size_is_a_training_on_a_nested_part_with_preprocessing_of_its_own(document: dict[str, Any]) -> None:
    experiment = load(document)
    whole, raw = data_cache.prepared_data(experiment), data_cache.raw_data(experiment)
    assert whole.validation is not None
    smaller: set[int] = set()
    for step, count in ((1, 10), (3, 30), (9, 90)):
        prepared = data_cache.prepared_data(experiment, step)
        part = prepared.train.indices
        assert len(part) == data_cache.training_samples(experiment, step) == count
        assert smaller < set(part) <= set(whole.train.indices)
        smaller = set(part)
        assert Counter(raw.targets[part].tolist()) == {c: pytest.approx(count / 3, abs=1) for c in range(3)}
        assert prepared.preprocessing.mean is not None
        assert np.allclose(prepared.preprocessing.mean, np.asarray(raw.inputs)[part].mean(0))
        assert prepared.validation is not None
        assert np.array_equal(prepared.validation.indices, whole.validation.indices)
        assert prepared.test is None, "nothing looks at it before every choice is made"
        if step < 9:
            other = load(document, ["seed=3"])
            assert np.array_equal(data_cache.prepared_data(other, step).train.indices, part), "splits.seed decides"
    assert np.array_equal(part, whole.train.indices)
    moved = load(document, ["data.splits.seed=1"])
    assert set(data_cache.prepared_data(moved, 3).train.indices) <= set(data_cache.prepared_data(moved).train.indices)


def test_the_latest_part_is_that_of_the_source() -> None:
    given = {"validation": list(range(120, 135)), "test": list(range(135, 150))}
    experiment = load({**SVC, "data": {"type": "iris", "splits": given}}, ["tuning.fidelity.take=latest"])
    assert data_cache.prepared_data(experiment, 3).train.indices.tolist() == list(range(80, 120))


def test_weights_go_with_their_samples(tmp_path: Path) -> None:
    lines = [f"{x},{'a' if x % 2 else 'b'},{x + 1}" for x in range(60)]
    (tmp_path / "d.csv").write_text("x,y,w\n" + "\n".join(lines))
    data = {"type": "csv", "path": str(tmp_path / "d.csv"), "target": "y", "weights": "w"}
    part = data_cache.prepared_data(load({**SVC, "data": data}), 1).train
    assert part.weights is not None
    assert part.weights.tolist() == [index + 1 for index in part.indices]


def test_batches_are_no_larger_than_a_part_but_those_above_all_samples_fail() -> None:
    run = opened(load(MLP), {"training.optimizer.lr": 0.01, "training.batch_size": 64})
    assert run.advance(1)[0][1]["train.samples"] == 10
    too_large = opened(load(MLP), {"training.optimizer.lr": 0.01, "training.batch_size": 91})
    with pytest.raises(Exception, match="batch_size is 91, but the train split has 10 samples"):
        too_large.advance(1)


def test_what_a_run_has_done_is_its_state() -> None:
    run = opened(load(SVC), {"model.C": 1.0})
    first = run.advance(1)
    again = opened(load(SVC), {"model.C": 1.0}, state=run.state())
    assert again.advance(1) == []
    assert (again.step, again.metrics()) == first[0]
    assert [step for step, _ in again.advance(4)] == [9]


@pytest.mark.slow
@pytest.mark.parametrize("document", [SVC, MLP], ids=["estimator", "torch"])
@pytest.mark.parametrize("way", ["stopper=asha", "scheduler=freeze_thaw"])
def test_the_model_that_is_saved_is_the_full_sizes(document: dict[str, Any], way: str, tmp_path: Path) -> None:
    experiment = load(document, ["tuning.stopper=null", f"tuning.{way}"])
    report = tune(experiment, out=tmp_path / "runs")
    rows = rows_of(report)
    assert report.best is not None
    best = rows[report.best["number"]]
    assert (best["state"], best["steps"], best["train.samples"]) == ("completed", 9, 90)
    complete = [row["validation.accuracy"] for row in rows if row["state"] == "completed"]
    assert best["validation.accuracy"] == max(complete) == report.metrics["validation.accuracy"]
    stopped = [row for row in rows if row["state"] == "stopped"]
    assert all((row["steps"], row["train.samples"]) in ((1, 10), (3, 30)) for row in stopped)
    folder = Path(report.artefacts["directory"])
    judged = evaluate(folder / "model.pt", split="test").metrics
    assert judged["test.accuracy"] == report.metrics["test.accuracy"]
    again = train(load(folder / "best.yaml"))
    assert again.metrics["validation.accuracy"] == report.metrics["validation.accuracy"]
    assert report.plan is not None
    assert (report.plan["sizes"], report.plan["samples"]) == ((1, 3, 9), (10, 30, 90))


def test_each_size_is_fitted_once_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    fit = estimators.fit

    def counted(estimator: Any, part: Any, *_: Any) -> list[str]:
        sizes.append(len(part))
        return fit(estimator, part)

    monkeypatch.setattr(estimators, "fit", counted)
    report = tune(load(SVC, ["tuning.stopper=null", "tuning.scheduler=successive_halving"]))
    rows = rows_of(report)
    small = Counter(size for size in sizes if size < 90)
    assert small[10] == len(rows), "each trial begins with the least size"
    assert small[30] == sum(row["steps"] >= 3 for row in rows)


@pytest.mark.parametrize("way", ["stopper=asha", "scheduler=successive_halving", "stopper={type: wilcoxon, p: 0.3}"])
def test_folds_are_steps_and_none_is_computed_twice(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fits: Counter[float] = Counter()
    fit = estimators.fit

    def counted(estimator: Any, part: Any, *more: Any) -> list[str]:
        fits[estimator.C] += 1
        return fit(estimator, part)

    monkeypatch.setattr(estimators, "fit", counted)
    options = [f"tuning.{way}", "tuning.fidelity=null", "evaluation.cv=9", "tuning.trials=9"]
    options = options if "stopper" in way else ["tuning.stopper=null", *options]
    report = tune(load(SVC, options))
    rows = rows_of(report)
    assert any(row["state"] == "stopped" for row in rows)
    probed = {1.0}  # the file's own setting, which the plan measures; a setting of the space may be measured, too
    for row in rows:
        extra = 1 if report.best and row["trial"] == report.best["number"] else 0  # the model that is saved
        if row["model.C"] not in probed:
            assert fits[row["model.C"]] == row["steps"] + extra, row
    assert report.best is not None
    best = rows[report.best["number"]]
    assert (best["state"], best["steps"]) == ("completed", 9)


def test_a_mean_over_fewer_folds_is_never_best() -> None:
    """Where the first folds are easy, trials that end after them have the highest means."""
    options = ["tuning.fidelity=null", "evaluation.cv=5", "data.splits={test: 0.3, seed: 0, stratify: false}"]
    options += ["tuning.stopper={type: patience, reports: 1}", "tuning.space={model.C: [100.0, 1.0, 0.3, 0.2]}"]
    report = tune(load(SVC, [*options, "tuning.sampler=grid", "tuning.trials=4"]))
    rows = {state: [row for row in rows_of(report) if row["state"] == state] for state in ("completed", "stopped")}
    best = max(rows["completed"], key=lambda row: row["validation.accuracy"])
    assert max(row["validation.accuracy"] for row in rows["stopped"]) > best["validation.accuracy"]
    assert report.best is not None
    assert report.best["number"] == best["trial"]
    assert report.metrics["validation.accuracy"] == best["validation.accuracy"]


def test_sizes_and_folds_together(tmp_path: Path) -> None:
    report = tune(load(SVC, ["evaluation.cv=3"]), out=tmp_path / "runs")
    rows = rows_of(report)
    assert {row["steps"]: row["train.samples"] for row in rows}[9] == 80, "of a fold"
    assert report.best is not None
    plain = tune(load(SVC, ["evaluation.cv=3", "tuning.fidelity=null", "tuning.stopper=null"]))
    for row, alone in zip(rows, rows_of(plain), strict=True):
        assert row["model.C"] == alone["model.C"]
        if row["state"] == "completed":
            assert row["validation.accuracy"] == alone["validation.accuracy"]
            assert row["validation.accuracy_std"] == alone["validation.accuracy_std"]


def test_too_small_a_part_is_told_before_anything_runs() -> None:
    with pytest.raises(InputError, match=r"2 of its 90 samples, for 3 classes; set tuning\.fidelity\.least to 0\.034"):
        tune(load(SVC, ["tuning.fidelity.least=0.01"]))


def test_a_file_that_asks_for_sizes_in_vain_is_refused() -> None:
    with pytest.raises(ExperimentError, match="nothing looks at that; write stopper: asha"):
        load(SVC, ["tuning.stopper=null"])
    with pytest.raises(ExperimentError, match=r"set least to at most 0\.333"):
        load(SVC, ["tuning.fidelity.least=0.9"])
    with pytest.raises(ExperimentError, match="a section of keys and values"):
        load(SVC, ["tuning.fidelity=data"])
