"""Calibration against the formula of Guo et al. (2017), and against what perfect and boastful models are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.training.metrics.answers import Answers
from modelopt_cli.training.metrics.calibration import BINS, calibration_bins, calibration_error
from modelopt_cli.training.metrics.scoring import Scores

Array = np.ndarray[Any, Any]


def by_the_formula(targets: Array, probabilities: Array, bins: int) -> float:
    """Equation 3, sample by sample: B_m is the set of samples whose confidence lies in ((m - 1) / M, m / M]."""
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    error = 0.0
    for m in range(1, bins + 1):
        members = [i for i, p in enumerate(confidence) if (m - 1) / bins < p <= m / bins]
        if members:
            acc = sum(predicted[i] == targets[i] for i in members) / len(members)
            conf = sum(confidence[i] for i in members) / len(members)
            error += len(members) / len(targets) * abs(acc - conf)
    return error


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(2, 6))
def test_the_error_is_that_of_the_paper(seed: int, samples: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, rng.uniform(0.1, 3.0)), samples)
    targets = rng.integers(0, classes, samples)
    bins = calibration_bins(targets, probabilities)
    assert len(bins) == BINS
    assert sum(each.count for each in bins) == samples
    assert calibration_error(bins) == pytest.approx(by_the_formula(targets, probabilities, BINS))


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    bins = calibration_bins(np.array([0, 0]), np.array([[0.6, 0.4], [1.0, 0.0]]), count=5)
    assert [(each.low, each.high) for each in bins if each.count] == [(0.4, pytest.approx(0.6)), (0.8, 1.0)]


def test_one_that_is_always_sure_and_right_half_the_time_errs_by_a_half() -> None:
    sure = np.array([[1.0, 0.0]] * 4)
    assert calibration_error(calibration_bins(np.array([0, 1, 0, 1]), sure)) == 0.5
    assert calibration_error(calibration_bins(np.array([0, 0, 0, 0]), sure)) == 0.0
    assert calibration_error(calibration_bins(np.zeros(0, int), sure[:0])) is None


def test_probabilities_are_those_that_a_model_gives() -> None:
    targets = np.array([0, 1])
    logits = Answers("classification", targets, np.array([[0.0], [2.0]]))  # one column: the second class's logit
    assert logits.probabilities is not None
    assert np.allclose(logits.probabilities[:, 1], 1 / (1 + np.exp([0.0, -2.0])))
    decision = Scores(np.array([[1.0], [-1.0]]), "decision", predictions=targets)
    assert Answers("classification", targets, decision).probabilities is None
    assert Answers("classification", targets, Scores(None, predictions=targets)).probabilities is None
    assert Answers("regression", np.array([1.0]), np.array([[1.0]])).probabilities is None
