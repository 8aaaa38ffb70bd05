"""The seed article's grid search gives scikit-learn's own numbers, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, PredefinedSplit, train_test_split

from modelopt_cli import Report, load, tune
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.workflows.shared import data_cache

CONFIG = Path(__file__).parents[3] / "configs" / "iris_grid.yaml"
GRID: dict[str, list[Any]] = {
    "n_estimators": [10, 50, 100, 200],
    "max_depth": [None, 10, 20, 30],
    "min_samples_split": [2, 5, 10],
}
INPUTS, TARGETS = load_iris(return_X_y=True)


def rows_of(report: Report) -> list[dict[str, Any]]:
    table = report.tables["trials"]
    return table.records()


@pytest.mark.slow
def test_all_48_means_and_deviations_are_grid_search_cvs() -> None:
    train_x, test_x, train_y, test_y = train_test_split(INPUTS, TARGETS, test_size=0.3, random_state=42)
    reference = GridSearchCV(RandomForestClassifier(random_state=42), GRID, cv=5, scoring="accuracy", n_jobs=2)
    reference.fit(train_x, train_y)
    results = reference.cv_results_
    expected = {
        tuple(params[name] for name in GRID): (mean, deviation)
        for params, mean, deviation in zip(
            results["params"], results["mean_test_score"], results["std_test_score"], strict=True
        )
    }

    report = tune(load(CONFIG))

    actual = {
        tuple(row[f"model.{name}"] for name in GRID): (row["validation.accuracy"], row["validation.accuracy_std"])
        for row in rows_of(report)
    }
    assert len(actual) == 48
    assert actual == expected
    assert report.best is not None
    assert report.metrics["validation.accuracy"] == reference.best_score_
    best = report.best["params"]
    at = [params for params in results["params"] if all(params[name] == best[f"model.{name}"] for name in GRID)]
    assert results["mean_test_score"][results["params"].index(at[0])] == reference.best_score_
    refitted = RandomForestClassifier(random_state=42, **at[0]).fit(train_x, train_y)
    assert report.metrics["test.accuracy"] == refitted.score(test_x, test_y)


@pytest.mark.parametrize("stratify", [False, True])
def test_the_test_split_is_train_test_splits_row_by_row(stratify: bool) -> None:
    experiment = load(CONFIG, [f"data.splits.stratify={str(stratify).lower()}"])
    train, test = train_test_split(
        np.arange(len(TARGETS)), test_size=0.3, random_state=42, stratify=TARGETS if stratify else None
    )
    assert sorted(data_cache.split_data(experiment).test) == sorted(test)
    assert list(data_cache.development_indices(experiment)) == list(train), (
        "in scikit-learn's order: folds depend on it"
    )


def holdout() -> Experiment:
    return load(
        {
            "seed": 42,
            "data": {"type": "wine", "splits": {"validation": 0.4, "test": 0.2, "seed": 42}},
            "model": {
                "type": "sklearn",
                "estimator": "sklearn.ensemble.RandomForestClassifier",
                "random_state": 42,
                "n_estimators": 3,
            },
            "tuning": {
                "objective": "maximize validation.accuracy",
                "sampler": "grid",
                "executor": "serial",
                "space": {"model.max_depth": [1, 2, None], "model.min_samples_split": [2, 40]},
            },
        }
    )


def test_holdout_scores_are_grid_search_cvs_on_that_one_split() -> None:
    experiment = holdout()
    inputs, targets = load_wine(return_X_y=True)
    parts = data_cache.split_data(experiment)
    rows = np.concatenate([parts.train, parts.validation])
    fold = np.repeat([-1, 0], [len(parts.train), len(parts.validation)])
    reference = GridSearchCV(
        RandomForestClassifier(random_state=42, n_estimators=3),
        {"max_depth": [1, 2, None], "min_samples_split": [2, 40]},
        cv=PredefinedSplit(fold),
        scoring="accuracy",
        refit=False,
    ).fit(inputs[rows], targets[rows])

    ours = rows_of(tune(experiment))

    assert [row["validation.accuracy"] for row in ours] == list(reference.cv_results_["mean_test_score"])
    assert len({row["validation.accuracy"] for row in ours}) > 1, "settings that all score alike would show nothing"
    order = [(params["max_depth"], params["min_samples_split"]) for params in reference.cv_results_["params"]]
    assert [(row["model.max_depth"], row["model.min_samples_split"]) for row in ours] == order
