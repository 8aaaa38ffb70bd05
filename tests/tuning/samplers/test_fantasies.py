"""What settings under way may come out as: draws, the process conditioned on them, and the improvement beside them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._common.encoding import Points
from modelopt_cli.tuning.samplers._gp.acquisition import log_expected_improvement
from modelopt_cli.tuning.samplers._gp.fantasies import Fantasies, drawn_outcomes
from modelopt_cli.tuning.samplers._gp.process import Process, fitted_alike

Array = NDArray[np.float64]

LENGTHS, SCALE, NOISE = np.array([0.4, 0.7]), 1.3, 1e-4
HYPER = np.concatenate([np.log(LENGTHS), np.zeros(4), [np.log(SCALE), np.log(NOISE)]])  # no warp, no categories


def points(numbers: Array) -> Points:
    return Points(numbers, np.zeros((len(numbers), 0), dtype=np.int64))


def covariance(one: Array, other: Array) -> Array:
    """Matérn 5/2, by its formula."""
    r = np.sqrt(5 * (((one[:, None] - other[None]) / LENGTHS) ** 2).sum(2))
    return np.asarray(SCALE * (1 + r + r * r / 3) * np.exp(-r))


def conditioned(at: Array, seen: Array, targets: Array) -> tuple[Array, Array]:
    """Mean and covariance of a Gaussian vector given others, as in textbooks."""
    inverse = np.linalg.inv(covariance(seen, seen) + (NOISE + 1e-8) * np.eye(len(seen)))
    cross = covariance(at, seen)
    return cross @ inverse @ targets, covariance(at, at) - cross @ inverse @ cross.T


@pytest.fixture
def known() -> tuple[Array, Array]:
    x = np.random.default_rng(0).uniform(0.05, 0.95, (9, 2))
    y = np.sin(5 * x[:, 0]) + x[:, 1]
    return x, (y - y.mean()) / y.std()


PENDING = np.array([[0.3, 0.4], [0.32, 0.45], [0.9, 0.1]])
CANDIDATES = np.random.default_rng(1).uniform(0.05, 0.95, (20, 2))


def test_a_process_with_fantasies_is_the_exact_one_that_saw_the_same_values(known: tuple[Array, Array]) -> None:
    x, y = known
    process = Process(points(x), y, HYPER)
    outcomes = drawn_outcomes(process, points(PENDING), np.random.default_rng(2), 8)
    everything = np.concatenate([x, PENDING])
    fantasies = Fantasies(process, points(everything), outcomes, np.ones((12, 8), dtype=bool))
    means, deviation = fantasies.process.predict(points(CANDIDATES))
    assert means.shape == (20, 8)
    for column in range(8):
        mean, exact = conditioned(CANDIDATES, everything, np.append(y, outcomes[:, column]))
        np.testing.assert_allclose(means[:, column], mean, atol=1e-7)
        np.testing.assert_allclose(deviation, np.sqrt(np.diag(exact)), atol=1e-6)
        at_known, _ = conditioned(everything, everything, np.append(y, outcomes[:, column]))
        assert fantasies.best[column] == pytest.approx(at_known.min(), abs=1e-7)


def test_outcomes_are_drawn_together(known: tuple[Array, Array]) -> None:
    """Two settings next to each other come out alike; moments are those of the posterior, noise included."""
    x, y = known
    outcomes = drawn_outcomes(Process(points(x), y, HYPER), points(PENDING), np.random.default_rng(3), 4096)
    mean, exact = conditioned(PENDING, x, y)
    spread = np.sqrt(np.diag(exact))
    np.testing.assert_allclose(outcomes.mean(axis=1), mean, atol=0.01 * spread.max())
    np.testing.assert_allclose(np.cov(outcomes), exact + NOISE * np.eye(3), atol=0.02 * spread.max() ** 2)
    assert np.corrcoef(outcomes[0], outcomes[1]).item(1) > 0.8


def test_the_mean_over_fantasies_is_what_a_setting_adds_to_the_joint_improvement(known: tuple[Array, Array]) -> None:
    """E max(b - f(x), b - f(pending), 0) less the same without x, by plain draws of all of them together."""
    x, y = known[0][:4], known[1][:4]  # few, so that much is left to win
    process, count = Process(points(x), y, HYPER), 1024
    outcomes = drawn_outcomes(process, points(PENDING), np.random.default_rng(4), count)
    everything = np.concatenate([x, PENDING])
    fantasies = Fantasies(process, points(everything), outcomes, np.ones((7, count), dtype=bool))
    means, deviation = fantasies.process.predict(points(CANDIDATES))
    ours = np.exp(log_expected_improvement(means, deviation[:, None], fantasies.best)).mean(axis=1)
    together = np.concatenate([CANDIDATES, PENDING])
    mean, exact = conditioned(together, x, y)
    normal = np.random.default_rng(5).standard_normal((40_000, len(together)))
    draws = mean + normal @ np.linalg.cholesky(exact + 1e-9 * np.eye(len(together))).T
    best = conditioned(x, x, y)[0].min()
    without = np.minimum(draws[:, 20:].min(axis=1), best)
    gains = np.maximum(without[:, None] - draws[:, :20], 0.0)
    error = gains.std(axis=0) / 200
    assert np.all(np.abs(ours - gains.mean(axis=0)) < 5 * error + 0.02 * ours.max())
    assert ours.max() > 0.02  # there is something to compare


def test_what_does_not_count_is_not_improved_on(known: tuple[Array, Array]) -> None:
    """A pending setting that may turn out infeasible sets no mark in the draws where it does."""
    x, y = known
    process = Process(points(x), y, HYPER)
    outcomes = np.array([[-9.0, -9.0], [0.0, 0.0], [0.0, 0.0]])
    counting = np.ones((12, 2), dtype=bool)
    counting[9:, 1] = False
    best = Fantasies(process, points(np.concatenate([x, PENDING])), outcomes, counting).best
    assert best[0] < -8
    assert best[1] > -8


def test_length_scales_that_are_alike_differ_by_little() -> None:
    rng = np.random.default_rng(6)
    x = rng.random((25, 3))
    y = np.sin(9 * x[:, 0])  # the others do not matter, so that by themselves they would be long
    y = (y - y.mean()) / y.std()
    alike, apart = fitted_alike(points(x), y)[:3], Process(points(x), y).hyper[:3]
    assert np.ptp(apart) > 1.0
    assert np.ptp(alike) < 0.7 * np.ptp(apart)
    only_categories = Points(np.zeros((4, 0)), np.array([[0], [1], [0], [1]]))
    assert np.isfinite(fitted_alike(only_categories, np.array([1.0, -1.0, 1.0, -1.0]))).all()
