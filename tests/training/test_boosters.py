"""XGBoost, LightGBM and CatBoost in whole runs: early stopping by a part of the train split, searches, teachers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelopt_cli import distill, load, train, tune
from modelopt_cli.core.errors import UsageError
from modelopt_cli.training import boosters
from modelopt_cli.workflows.shared import data_cache

SCALER = {"estimator": "sklearn.preprocessing.StandardScaler"}
BOOSTERS = {
    "xgboost.XGBClassifier": "n_estimators",
    "lightgbm.LGBMClassifier": "n_estimators",
    "catboost.CatBoostClassifier": "iterations",
}
SPLITS = {"validation": 0.2, "test": 0.2, "seed": 0}


@pytest.fixture
def table(tmp_path: Path) -> str:
    draw = np.random.default_rng(0)
    who, a, b = draw.integers(0, 30, 400), draw.normal(100, 5, 400), draw.normal(0, 1, 400)
    label = (a - 100) / 5 + b + draw.normal(0, 1, 400) > 0
    lines = [f"{w},{x:.3f},{y:.3f},{int(z)}" for w, x, y, z in zip(who, a, b, label, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["who,a,b,y", *lines]) + "\n")
    return str(tmp_path / "t.csv")


def document(table: str, path: str, *, steps: bool = False, data: Any = None, **arguments: Any) -> dict[str, Any]:
    booster = {"estimator": path, **arguments}
    section = {"type": "csv", "path": table, "target": "y", "splits": SPLITS, "drop": ["who"], **(data or {})}
    return {"data": section, "model": {"type": "sklearn", **({"steps": [SCALER, booster]} if steps else booster)}}


@pytest.mark.slow
@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("path", BOOSTERS)
def test_early_stopping_goes_by_a_part_of_the_train_split(table: str, path: str, steps: bool) -> None:
    stopping = {BOOSTERS[path]: 150, "early_stopping_rounds": 3, "learning_rate": 0.2}
    experiment = load(document(table, path, steps=steps, **stopping))
    report = train(experiment)
    assert report.warnings == []
    assert report.details["early_stopping"] == {"samples": 24, "of": 240, "split": "train", "drawn": "drawn at random"}
    model = report.model.model
    last = model.steps[-1][1] if steps else model
    trees = last.best_iteration if path.startswith("xgb") else last.best_iteration_
    assert 0 <= trees < 140, "it stopped, by samples that it was not fitted to"
    if steps:  # as by hand: scaled by what is fitted to, and the samples apart likewise
        part = data_cache.prepared_data(experiment).train
        held, _ = data_cache.stopping_samples(experiment, part.indices)
        learnt = np.setdiff1d(np.arange(len(part)), held)
        np.testing.assert_allclose(model.steps[0][1].mean_, part.inputs[learnt].mean(axis=0))


def test_the_part_respects_groups_and_time(table: str) -> None:
    for data, drawn in (
        ({"drop": [], "splits": {**SPLITS, "groups": "who"}}, "whole groups of who"),
        ({"splits": {**SPLITS, "order": "time"}}, "the latest"),
    ):
        experiment = load(document(table, "xgboost.XGBClassifier", data=data, n_estimators=20, early_stopping_rounds=3))
        train_part = data_cache.prepared_data(experiment).train.indices
        held, how = data_cache.stopping_samples(experiment, train_part)
        assert how == drawn
        apart, rest = train_part[held], np.delete(train_part, held)
        if drawn == "the latest":
            assert rest.max() < apart.min()
        else:
            who = data_cache.raw_data(experiment).aside["who"]
            assert not set(who[apart]) & set(who[rest])
        assert train(experiment).details["early_stopping"]["drawn"] == drawn


def test_who_does_not_ask_for_it_is_fitted_to_all(table: str) -> None:
    report = train(load(document(table, "xgboost.XGBClassifier", n_estimators=5)))
    assert "early_stopping" not in report.details
    from sklearn.ensemble import HistGradientBoostingClassifier

    assert not boosters.stops_early(HistGradientBoostingClassifier(early_stopping=True)), "it draws its own"


@pytest.mark.parametrize("cv", [None, 3])
def test_a_search_stops_early_in_each_trial(table: str, cv: int | None) -> None:
    own = document(table, "lightgbm.LGBMClassifier", n_estimators=60, early_stopping_rounds=3, n_jobs=1)
    search = {"objective": "minimize validation.log_loss", "sampler": "grid", "executor": "serial"}
    space = {"model.learning_rate": [0.1, 0.5]}
    report = tune(load({**own, "evaluation": {"cv": cv}, "tuning": {**search, "space": space}}))
    assert report.details["early_stopping"]["of"] == (240 if cv is None else 320)
    assert 0.6 < report.metrics["test.accuracy"] <= 1.0


@pytest.mark.slow
@pytest.mark.parametrize("path", BOOSTERS)
def test_boosters_teach(path: str) -> None:
    teacher = {"model": {"type": "sklearn", "estimator": path, BOOSTERS[path]: 20}}
    student = {
        "data": {"type": "iris", "splits": SPLITS},
        "model": {"type": "mlp", "hidden": [8]},
        "training": {"epochs": 3, "batch_size": 32},
        "distillation": {"teacher": teacher, "losses": ["soft_targets"], "baseline": False},
    }
    rows = distill(load(student)).tables["learners"]
    row = rows.records()[0]
    assert row["learner"] == "teacher"
    assert float(row["test.accuracy"]) > 0.8


def test_folds_by_groups_keep_the_column_out_and_test_groups_apart(table: str, tmp_path: Path) -> None:
    from modelopt_cli import evaluate

    own = document(table, "sklearn.linear_model.LogisticRegression", data={"drop": []})
    experiment = load({**own, "evaluation": {"cv": 5, "groups": "who"}})
    report = train(experiment, tmp_path / "run")
    assert report.model.preprocessing["feature_names"] == ["a", "b"]
    raw, test = data_cache.raw_data(experiment), data_cache.development_indices(experiment)
    others = np.setdiff1d(np.arange(len(raw)), test)
    assert not set(raw.aside["who"][test]) & set(raw.aside["who"][others])
    again = evaluate(tmp_path / "run/model.pt", "test")
    assert again.metrics == {key: value for key, value in report.metrics.items() if key.startswith("test.")}
    assert train(load({**own, "evaluation": {"cv": 4, "order": "time"}})).metrics["validation.accuracy"] > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("path", BOOSTERS)
def test_saved_boosters_are_read_as_they_are(table: str, path: str, steps: bool, tmp_path: Path) -> None:
    """Trees and all, without consent to code, which they name none of."""
    from modelopt_cli import evaluate, predict

    report = train(load(document(table, path, steps=steps, **{BOOSTERS[path]: 10})), tmp_path / "run")
    assert report.warnings == []
    again = evaluate(tmp_path / "run/model.pt", "test")
    assert again.metrics == {key: value for key, value in report.metrics.items() if key.startswith("test.")}
    with pytest.warns(UserWarning, match="ignored 1 columns that the model does not use: who"):
        assert len(predict(tmp_path / "run/model.pt", table).rows) == 400


@pytest.mark.parametrize("path", BOOSTERS)
def test_early_stopping_inside_another_estimator_is_refused(path: str, table: str) -> None:
    pytest.importorskip(path.partition(".")[0])
    inside = {"estimator": path, BOOSTERS[path]: 20}
    outer = {"type": "sklearn", "estimator": "sklearn.ensemble.VotingClassifier"}
    names = document(table, path)
    train(load({**names, "model": {**outer, "estimators": [["b", inside]]}}), out=None)
    stopping = {**inside, "early_stopping_rounds": 3}
    with pytest.raises(UsageError, match=r"\(b of VotingClassifier\) is asked to stop early, but there it gets no"):
        train(load({**names, "model": {**outer, "estimators": [["b", stopping]]}}), out=None)
