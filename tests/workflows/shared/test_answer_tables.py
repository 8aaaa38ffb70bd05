"""Confusion, calibration and predictions: the very answers that the metrics were computed from, in every workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from modelopt_cli import distill, evaluate, load, prune, train, tune
from modelopt_cli.models.files import checkpoints
from modelopt_cli.results.report import Report, Table
from modelopt_cli.results.saved_run import read_run
from modelopt_cli.training.metrics.answers import Answers
from modelopt_cli.workflows.shared.answer_tables import (
    MOST_CLASSES,
    MOST_SAMPLES,
    answer_tables,
    pooled,
)

DATA: dict[str, Any] = {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}}
TORCH: dict[str, Any] = {"data": DATA, "model": {"type": "mlp", "hidden": [8]}, "training": {"epochs": 2}}
FOREST: dict[str, Any] = {
    "data": DATA,
    "model": {"type": "sklearn", "estimator": "sklearn.ensemble.RandomForestClassifier", "n_estimators": 3},
}
SVC: dict[str, Any] = {"data": DATA, "model": {"type": "sklearn", "estimator": "sklearn.svm.SVC"}}
RIDGE: dict[str, Any] = {
    "data": {"type": "diabetes", "splits": DATA["splits"]},
    "model": {"type": "sklearn", "estimator": "sklearn.linear_model.Ridge"},
}


def judged_splits(report: Report) -> set[str]:
    return {name.partition(".")[0] for name in report.metrics if name.endswith(".accuracy")}


def check_classifier(report: Report, *, calibrated: bool = True) -> None:
    """The tables say what the metrics say."""
    confusion = report.records("confusion")
    splits = judged_splits(report)
    assert splits == {row["split"] for row in confusion}
    for split in splits:
        rows = [row for row in confusion if row["split"] == split]
        assert all(row["count"] > 0 for row in rows)
        right = sum(row["count"] for row in rows if row["true"] == row["predicted"])
        assert right / sum(row["count"] for row in rows) == pytest.approx(report.metrics[f"{split}.accuracy"])
        counted = [row["samples"] for row in report.records("splits") if row["split"] == split]
        assert counted == [sum(row["count"] for row in rows)]
    bins = report.records("calibration")
    assert {row["split"] for row in bins} == (splits if calibrated else set())
    assert set(report.details.get("calibration_error", {})) == (splits if calibrated else set())
    for split in splits if calibrated else ():
        rows = [row for row in bins if row["split"] == split]
        samples = sum(row["count"] for row in rows)
        right = sum(row["count"] * row["accuracy"] for row in rows if row["count"])
        assert right / samples == pytest.approx(report.metrics[f"{split}.accuracy"])
        gaps = (row["count"] * abs(row["accuracy"] - row["confidence"]) for row in rows if row["count"])
        assert report.details["calibration_error"][split] == pytest.approx(sum(gaps) / samples)


@pytest.mark.parametrize("document", [TORCH, FOREST], ids=["torch", "forest"])
def test_of_a_training(document: dict[str, Any], tmp_path: Path) -> None:
    report = train(load(document), tmp_path / "run")
    assert judged_splits(report) == {"validation", "test"}
    check_classifier(report)
    check_classifier(read_run(tmp_path / "run"))


def test_of_an_estimator_without_probabilities() -> None:
    check_classifier(train(load(SVC)), calibrated=False)


def test_of_a_cross_validation_what_is_judged_on_test() -> None:
    report = train(load({**FOREST, "data": {**DATA, "splits": {"test": 0.2, "seed": 0}}, "evaluation": {"cv": 3}}))
    assert {row["split"] for row in report.records("confusion")} == {"test"}
    right = sum(row["count"] for row in report.records("confusion") if row["true"] == row["predicted"])
    assert right / 30 == pytest.approx(report.metrics["test.accuracy"])
    assert report.records("splits") == [
        {"split": "development", "samples": 120},
        {"split": "test", "samples": 30},
    ]


def test_over_seeds_all_answers_are_counted(tmp_path: Path) -> None:
    report = train(load({**TORCH, "seeds": 2}), tmp_path / "run")
    ones = [read_run(tmp_path / f"run/seed-{seed}") for seed in (0, 1)]
    for split in ("validation", "test"):
        rows = [row for row in report.records("confusion") if row["split"] == split]
        assert sum(row["count"] for row in rows) == 60
        right = sum(row["count"] for row in rows if row["true"] == row["predicted"])
        assert right / 60 == pytest.approx(np.mean([one.metrics[f"{split}.accuracy"] for one in ones]))
        bins = [row for row in report.records("calibration") if row["split"] == split]
        assert sum(row["count"] for row in bins) == 60
    assert report.records("splits")[0] == {"split": "train", "samples": 90}
    assert read_run(tmp_path / "run").records("confusion") == report.records("confusion")


def test_models_of_several_seeds_are_pooled_like_one_with_all_answers() -> None:
    rng = np.random.default_rng(0)
    targets, logits = rng.integers(0, 3, (2, 50)), rng.normal(size=(2, 50, 3))
    names = ("a", "b", "c")
    ones = [
        answer_tables({"test": Answers("classification", *each)}, names)[0]
        for each in zip(targets, logits, strict=True)
    ]
    tables, details = pooled(ones)
    together = {"test": Answers("classification", targets.reshape(-1), logits.reshape(-1, 3))}
    expected, errors = answer_tables(together, names)
    assert sorted(tables["confusion"].rows) == sorted(expected["confusion"].rows)
    assert details["calibration_error"] == pytest.approx(errors["calibration_error"])
    for mine, theirs in zip(tables["calibration"].rows, expected["calibration"].rows, strict=True):
        assert mine[:4] == theirs[:4]
        assert mine[4:] == pytest.approx(theirs[4:]) if mine[3] else mine[4:] == theirs[4:]
    assert pooled([]) == ({}, {})


def test_of_a_regression_true_and_predicted(tmp_path: Path) -> None:
    report = train(load(RIDGE))
    rows = report.records("predictions")
    for split, samples in (("validation", 89), ("test", 89)):
        pairs = [(row["true"], row["predicted"]) for row in rows if row["split"] == split]
        assert len(pairs) == samples
        assert np.mean([abs(true - predicted) for true, predicted in pairs]) == pytest.approx(
            report.metrics[f"{split}.mae"]
        )
    assert set(rows[0]) == {"split", "true", "predicted"}
    assert report.table("confusion") is None
    assert report.table("classes") is None
    checkpoints.save(tmp_path / "model.pt", report.model)
    again = evaluate(tmp_path / "model.pt")
    assert again.records("predictions") == [row for row in rows if row["split"] == "test"]


def test_several_targets_are_told_apart_and_few_samples_are_kept() -> None:
    true = np.arange(6000.0).reshape(3000, 2)
    tables, details = answer_tables({"test": Answers("regression", true, true + 1)}, ("height", "<b>width"))
    records = tables["predictions"].records()
    assert len(records) == 2 * MOST_SAMPLES
    assert {row["target"] for row in records} == {"height", "<b>width"}
    assert all(row["predicted"] == row["true"] + 1 for row in records)
    assert [records[0]["true"], records[MOST_SAMPLES - 1]["true"]] == [0.0, 5998.0]
    assert details == {}


def test_confusion_is_scikit_learn_s() -> None:
    rng = np.random.default_rng(1)
    targets, scores = rng.integers(0, 4, 80), rng.normal(size=(80, 4))
    names = ("<script>", "b", "\x1b[31m", "d")
    tables, _ = answer_tables({"test": Answers("classification", targets, scores)}, names)
    matrix = confusion_matrix(targets, scores.argmax(axis=1), labels=range(4))
    rows = [[names[i], names[j], int(matrix[i, j])] for i in range(4) for j in range(4) if matrix[i, j]]
    assert [row[1:] for row in tables["confusion"].rows] == rows


def test_of_very_many_classes_the_small_ones_are_counted_together() -> None:
    classes = MOST_CLASSES + 50
    targets = np.concatenate([np.arange(classes), np.arange(MOST_CLASSES), [7, 7]])
    scores = np.eye(classes)[targets]
    scores[-1] = np.eye(classes)[classes - 1]
    names = tuple("(others)" if index == 3 else f"c{index}" for index in range(classes))
    tables, _ = answer_tables({"test": Answers("classification", targets, scores)}, names)
    counts = {(row["true"], row["predicted"]): row["count"] for row in tables["confusion"].records()}
    assert counts[("((others))", "((others))")] == 50
    assert counts[("c7", "((others))")] == 1
    assert counts[("c7", "c7")] == 3
    assert len({true for true, _ in counts}) == MOST_CLASSES + 1
    assert sum(counts.values()) == len(targets)


def test_samples_of_no_known_class_have_a_number() -> None:
    tables, _ = answer_tables({"test": Answers("classification", np.array([0, 1]), np.eye(2))}, ())
    assert tables["confusion"].rows == [["test", "0", "0", 1], ["test", "1", "1", 1]]


def test_empty_answers_give_no_table() -> None:
    none = Answers("classification", np.zeros(0, int), np.zeros((0, 3)))
    assert answer_tables({"test": none}, ("a", "b", "c")) == ({}, {})
    assert answer_tables({}, ()) == ({}, {})


def test_the_test_split_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counting.py").write_text(
        "from sklearn.naive_bayes import GaussianNB\n"
        "class Counting(GaussianNB):\n"
        "    sizes = []\n"
        "    def predict(self, X):\n"
        "        self.sizes.append(len(X))\n"
        "        return super().predict(X)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    splits = {"validation": 0.2, "test": 0.1, "seed": 0}
    model = {"type": "sklearn", "estimator": "counting.Counting"}
    report = train(load({"data": {**DATA, "splits": splits}, "model": model}))
    check_classifier(report)
    sizes = type(report.model.model).sizes
    assert (sizes.count(15), sizes.count(30)) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("structure", ["weights", "neurons"])
def test_of_a_pruned_model(structure: str, tmp_path: Path) -> None:
    section = {"structure": structure, "amount": 0.5, "recovery": {"epochs": 1}}
    report = prune(load({**TORCH, "pruning": section}), tmp_path / "run")
    check_classifier(report)
    check_classifier(read_run(tmp_path / "run"))


@pytest.mark.slow
def test_of_the_student(tmp_path: Path) -> None:
    section = {"teacher": {"model": {"type": "mlp", "hidden": [16]}, "training": {"epochs": 2}}}
    report = distill(load({**TORCH, "distillation": section}), tmp_path / "run")
    check_classifier(report)


@pytest.mark.slow
@pytest.mark.parametrize("document", [TORCH, FOREST], ids=["torch", "forest"])
def test_of_the_best_model_of_a_search(document: dict[str, Any], tmp_path: Path) -> None:
    path = "training.optimizer.lr" if document is TORCH else "model.max_depth"
    section = {"objective": "maximize validation.accuracy", "trials": 2, "sampler": "random"}
    section["space"] = {path: {"float": [0.01, 0.1]} if document is TORCH else {"int": [1, 5]}}
    report = tune(load({**document, "tuning": section}), tmp_path / "run")
    check_classifier(report)
    check_classifier(read_run(tmp_path / "run"))


def test_of_a_saved_model(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "model.pt", train(load(TORCH)).model)
    check_classifier(evaluate(tmp_path / "model.pt"))
    (tmp_path / "new.csv").write_text(
        "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm),target\n5,3,1.4,0.2,setosa\n"
    )
    report = evaluate(tmp_path / "model.pt", data=tmp_path / "new.csv")
    assert [(row["split"], row["true"], row["count"]) for row in report.records("confusion")] == [("data", "setosa", 1)]
    assert report.records("classes")[0] == {"split": "data", "class": "setosa", "samples": 1}
    assert isinstance(report.table("splits"), Table)
