"""Metrics against scikit-learn, called directly."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from modelopt_cli.core.errors import TrialError, UsageError
from modelopt_cli.training.metrics import names as metric_names
from modelopt_cli.training.metrics import scoring
from modelopt_cli.training.metrics.scoring import Scores

CLOSE: dict[str, Any] = {"rel": 1e-9, "abs": 1e-12}


def drawn(seed: int, n: int, outputs: int, weighted: bool) -> tuple[np.random.Generator, np.ndarray, Any]:
    rng = np.random.default_rng(seed)
    logits = np.round(rng.normal(size=(n, outputs)), 1).astype(np.float32)  # rounded: ties
    return rng, logits, rng.uniform(0.1, 2.0, n).astype(np.float32) if weighted else None


CASES = {"seed": st.integers(0, 2**31), "n": st.integers(1, 30), "weighted": st.booleans()}


@pytest.mark.slow
@given(**CASES, classes=st.integers(2, 5))
def test_classification_equals_sklearn(seed: int, n: int, weighted: bool, classes: int) -> None:
    rng, logits, w = drawn(seed, n, classes, weighted)
    y = rng.integers(0, rng.integers(1, classes + 1), n)  # some classes may be absent
    metrics = scoring.compute("classification", y, logits, prefix="", weights=w, classes=classes)
    p = logits.argmax(1)
    shares = scoring.probabilities("classification", logits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "accuracy": reference.accuracy_score(y, p, sample_weight=w),
            "balanced_accuracy": reference.balanced_accuracy_score(y, p, sample_weight=w),
            "log_loss": reference.log_loss(y, shares, labels=range(classes), sample_weight=w),
        }
        for suffix, average in (("", "macro"), ("_weighted", "weighted"), ("_binary", "binary")):
            if average == "binary" and classes > 2:
                continue
            scores = reference.precision_recall_fscore_support(y, p, average=average, zero_division=0, sample_weight=w)
            expected |= {f"{name}{suffix}": scores[i] for i, name in enumerate(("precision", "recall", "f1"))}
        if len(set(y)) == classes:
            ranks = shares[:, 1] if classes == 2 else shares
            expected["roc_auc"] = reference.roc_auc_score(y, ranks, multi_class="ovr", sample_weight=w)
    assert metrics == pytest.approx(expected, **CLOSE)


@pytest.mark.slow
@given(**CASES, labels=st.integers(1, 4))
def test_multilabel_equals_sklearn(seed: int, n: int, weighted: bool, labels: int) -> None:
    rng, logits, w = drawn(seed, n, labels, weighted)
    y = (rng.random((n, labels)) < 0.5).astype(np.float32)
    metrics = scoring.compute("multilabel", y, logits, prefix="test.", weights=w, classes=labels)
    p = (logits >= 0).astype(int)
    if labels == 1:  # scikit-learn sees two classes in one column, and averages over both
        assert metrics["test.accuracy"] == pytest.approx(reference.accuracy_score(y, p, sample_weight=w))
        return
    expected = {"accuracy": reference.accuracy_score(y, p, sample_weight=w)}
    for suffix, average in (("", "macro"), ("_micro", "micro"), ("_weighted", "weighted")):
        scores = reference.precision_recall_fscore_support(y, p, average=average, zero_division=0, sample_weight=w)
        names = ("precision", "recall", "f1") if suffix == "" else ("", "", "f1")
        expected |= {f"{name}{suffix}": scores[i] for i, name in enumerate(names) if name}
    if all(0 < column.sum() < n for column in y.T):
        expected["roc_auc"] = reference.roc_auc_score(y, logits, average="macro", sample_weight=w)
    assert metrics == pytest.approx({f"test.{name}": value for name, value in expected.items()}, **CLOSE)


@given(**CASES, outputs=st.integers(1, 3))
def test_regression_equals_sklearn(seed: int, n: int, weighted: bool, outputs: int) -> None:
    rng, values, w = drawn(seed, n, outputs, weighted)
    y = np.round(rng.normal(size=(n, outputs)))
    metrics = scoring.compute("regression", y, values, prefix="", weights=w)
    expected = {
        "mae": reference.mean_absolute_error(y, values, sample_weight=w),
        "mse": reference.mean_squared_error(y, values, sample_weight=w),
        "rmse": reference.root_mean_squared_error(y, values, sample_weight=w),
    }
    if n > 1:
        expected["r2"] = reference.r2_score(y, values, sample_weight=w)
    assert metrics == pytest.approx(expected, **CLOSE)


def test_decision_values_rank_but_are_no_probabilities() -> None:
    y = np.array([0, 1, 1, 0])
    values = np.array([[-2.0], [3.0], [-1.0], [0.5]])
    metrics = scoring.compute("classification", y, Scores(values, "decision"), prefix="", classes=2)
    assert metrics["roc_auc"] == reference.roc_auc_score(y, values[:, 0])
    assert metrics["accuracy"] == 0.5
    assert "log_loss" not in metrics
    shares = scoring.probabilities("classification", Scores(values, "decision"))
    assert shares.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]


def test_predictions_decide_labels_where_the_model_gives_them() -> None:
    scores = Scores(np.array([[0.9, 0.1], [0.2, 0.8]]), predictions=np.array([1, 1]))
    metrics = scoring.compute("classification", np.array([1, 1]), scores, prefix="", classes=2)
    assert metrics["accuracy"] == 1.0
    assert metrics["log_loss"] == pytest.approx(-np.mean(np.log([0.1, 0.8])))
    assert "roc_auc" not in metrics
    four = scoring.probabilities("classification", Scores(None, predictions=np.array([1]), outputs=4))
    assert four.tolist() == [[0, 1, 0, 0]]
    labels_only = Scores(None, predictions=np.array([2, 0]))
    assert scoring.probabilities("classification", labels_only).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert "log_loss" not in scoring.compute("classification", np.array([2, 1]), labels_only, prefix="", classes=3)


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_wanted_gives_the_same_numbers_and_only_those(task: Any) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40, 2))
    y = rng.integers(0, 2, 40) if task == "classification" else rng.integers(0, 2, (40, 2))
    full = scoring.compute(task, y, logits, prefix="validation.", classes=2)
    assert set(full) == {f"validation.{name}" for name in metric_names.names(task, 2)}
    for name, value in full.items():
        wanted = [name, "train.seconds"]
        assert scoring.compute(task, y, logits, prefix="validation.", classes=2, wanted=wanted) == {name: value}


def cost(targets: np.ndarray, predictions: np.ndarray) -> float:
    assert targets.ndim == predictions.ndim == 1
    return float((targets != predictions).sum())


def test_own_metrics_by_function_and_by_import_path() -> None:
    y, logits = np.array([0, 1, 1]), np.eye(2)[[0, 1, 0]]
    computed = scoring.compute(
        "classification", y, logits, prefix="t.", extra=(cost, "sklearn.metrics:zero_one_loss"), classes=2
    )
    assert computed["t.cost"] == 1.0
    assert computed["t.zero_one_loss"] == pytest.approx(1 / 3)
    columns = scoring.compute("regression", y[:, None], logits[:, :1], prefix="", extra=(cost,))
    assert columns["cost"] == 2.0


def test_an_own_metric_that_fails_is_a_usage_error() -> None:
    def broken(targets: np.ndarray, predictions: np.ndarray) -> float:
        raise ZeroDivisionError("no samples of class 7")

    for metric, message in ((broken, "no samples of class 7"), (lambda a, b: None, "must return a number")):
        with pytest.raises(UsageError, match=message):
            scoring.compute("classification", np.array([0]), np.eye(2)[:1], prefix="", extra=(metric,))


def test_outputs_that_are_not_finite_are_told() -> None:
    with pytest.raises(TrialError, match="validation are not finite") as caught:
        scoring.compute("classification", np.array([0]), np.array([[np.nan, 1.0]]), prefix="validation.")
    assert caught.value.kind == "nan"


@given(**CASES)
def test_order_of_samples_and_scale_of_weights_do_not_matter(seed: int, n: int, weighted: bool) -> None:
    rng, logits, w = drawn(seed, n, 3, weighted)
    y, order = rng.integers(0, 3, n), rng.permutation(n)
    moved = None if w is None else 3.0 * w[order]
    first = scoring.compute("classification", y, logits, prefix="", weights=w)
    second = scoring.compute("classification", y[order], logits[order], prefix="", weights=moved)
    assert first == pytest.approx(second, rel=1e-6)
