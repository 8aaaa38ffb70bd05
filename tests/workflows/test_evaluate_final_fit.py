"""A model that was fitted to all but the test samples is never judged on those it learnt from as on others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelopt_cli import evaluate, load, train, tune
from modelopt_cli.core.errors import UsageError

TREE = {"type": "sklearn", "estimator": "sklearn.tree.DecisionTreeClassifier"}
SEARCH = {
    "objective": "maximize validation.accuracy",
    "trials": 2,
    "executor": "serial",
    "refit": "train+validation",
    "space": {"model.max_depth": [20, 30]},
}


@pytest.fixture
def noise(tmp_path: Path) -> dict[str, Any]:
    """Labels that nothing can be known of: a tree learns them by heart, and guesses those that it has not seen."""
    draw = np.random.default_rng(0)
    numbers, labels = draw.normal(size=120), draw.integers(0, 2, 120)
    rows = [f"{numbers[i]:.4f},{i // 6},{'ab'[labels[i]]}" for i in range(120)]
    (tmp_path / "d.csv").write_text("x,g,y\n" + "\n".join(rows) + "\n")
    return {"type": "csv", "path": str(tmp_path / "d.csv"), "target": "y"}


@pytest.mark.parametrize("evaluation", [{"cv": 4}, {"cv": 4, "groups": "g"}, {"cv": 4, "order": "time"}])
def test_after_cross_validation_there_is_no_split_to_judge_on(evaluation: Any, noise: Any, tmp_path: Path) -> None:
    train(load({"data": noise, "model": TREE, "evaluation": evaluation}), out=tmp_path / "o")
    for split in ("test", "validation"):
        with pytest.raises(UsageError, match=f"the {split} split of the model's data is empty"):
            evaluate(tmp_path / "o" / "model.pt", split)
    report = evaluate(tmp_path / "o" / "model.pt", "train")
    assert (report.metrics["train.accuracy"], report.details["samples"]) == (1.0, 120)


@pytest.mark.slow
@pytest.mark.parametrize(
    "splits",
    [
        {"test": 0.25},
        {"test": 0.25, "validation": 0.1},
        {"test": list(range(0, 120, 4))},
        {"test": 0.25, "validation": list(range(10))},
        {"test": 0.25, "groups": "g"},
        {"test": 0.25, "order": "time"},
    ],
)
@pytest.mark.parametrize("how", ["cv", "refit"])
def test_the_test_split_stays_what_was_held_back(how: str, splits: Any, noise: Any, tmp_path: Path) -> None:
    document: dict[str, Any] = {"data": {**noise, "splits": splits}, "model": TREE}
    if how == "cv":
        report = train(load({**document, "evaluation": {"cv": 4}}), out=tmp_path / "o")
    else:
        report = tune(load({**document, "tuning": SEARCH}), out=tmp_path / "o")
    again = evaluate(tmp_path / "o" / "model.pt")
    assert again.metrics["test.accuracy"] == report.metrics["test.accuracy"] < 0.8
    assert evaluate(tmp_path / "o" / "model.pt", "train").metrics["train.accuracy"] == 1.0
    with pytest.raises(UsageError, match="the validation split of the model's data is empty"):
        evaluate(tmp_path / "o" / "model.pt", "validation")
