"""Expected improvement, boxes and expected hypervolume improvement, against definitions, closed forms and chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from modelopt_cli.tuning.analysis.hypervolume import contribution, hypervolume
from modelopt_cli.tuning.samplers._gp.acquisition import (
    boxes,
    log_expected_hypervolume,
    log_expected_improvement,
    log_h,
)

LOSS = st.one_of(st.integers(0, 4).map(float), st.floats(0, 4))
POINTS = st.integers(1, 4).flatmap(lambda d: st.lists(st.tuples(*[LOSS] * d), min_size=1, max_size=8))


@given(st.floats(-50, 20))
def test_log_h_is_the_logarithm_of_the_closed_form(z: float) -> None:
    [value] = log_h(np.array([z]))
    if z > -5:
        assert value == pytest.approx(np.log(norm.pdf(z) + z * norm.cdf(z)), rel=1e-6)
    else:  # phi(z) / z² (1 - 3 / z² + 15 / z⁴ - ...), which encloses it
        series = 1 - 3 / z**2 + 15 / z**4
        low, high = (norm.logpdf(z) - 2 * np.log(-z) + np.log(term) for term in (series - 105 / z**6, series))
        assert low - 1e-9 <= value <= high + 1e-9


def test_log_h_never_gives_up() -> None:
    z = -np.logspace(0, 8, 400)
    values = log_h(z)
    assert np.isfinite(values).all()
    assert (np.diff(values) < 0).all()


def test_expected_improvement_is_its_integral() -> None:
    mean, deviation, best = 0.7, 0.4, 0.2
    integral, _ = quad(lambda f: (best - f) * norm.pdf(f, mean, deviation), -8, best)
    [value] = log_expected_improvement(np.array([mean]), np.array([deviation]), best)
    assert np.exp(value) == pytest.approx(integral, rel=1e-6)


@given(POINTS)
def test_boxes_are_disjoint_and_fill_what_is_not_dominated(points: list[tuple[float, ...]]) -> None:
    m = len(points[0])
    reference = np.full(m, 3.5)
    lower, upper = boxes(np.array(points), reference)
    assert (lower < upper).all()
    volume = np.maximum(upper - np.maximum(lower, 0.0), 0.0).prod(1).sum()  # inside of the positive orthant
    assert volume == pytest.approx(3.5**m - hypervolume(points, tuple(reference)), abs=1e-9)
    draws = np.random.default_rng(0).uniform(-1, 4, (200, m))
    holding = ((lower < draws[:, None]) & (draws[:, None] < upper)).all(2).sum(1)
    dominated = np.asarray((np.array(points) <= draws[:, None]).all(2)).any(1)
    wanted = (draws < reference).all(1) & ~dominated
    np.testing.assert_array_equal(holding, wanted)


def improvement(
    points: np.ndarray, reference: np.ndarray, mean: np.ndarray, deviation: np.ndarray
) -> tuple[float, float]:
    """Mean and its standard error, by chance."""
    rows = [tuple(row) for row in points.tolist()]
    draws = mean + deviation * np.random.default_rng(1).standard_normal((4000, len(mean)))
    won = [contribution(tuple(draw), rows, tuple(reference.tolist())) for draw in draws.tolist()]
    return float(np.mean(won)), float(np.std(won)) / len(won) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_expected_hypervolume_is_the_mean_of_what_draws_add_to_the_hypervolume(objectives: int) -> None:
    """The draws are the same each time, so that it passes always or never; bounds are five standard errors."""
    rng = np.random.default_rng(objectives)
    points, reference = rng.random((8, objectives)), np.full(objectives, 1.1)
    means, deviations = rng.random((4, objectives)), rng.uniform(0.05, 0.5, (4, objectives))
    volumes = np.exp(log_expected_hypervolume(means, deviations, *boxes(points, reference)))
    for value, mean, deviation in zip(volumes, means, deviations, strict=True):
        expected, error = improvement(points, reference, mean, deviation)
        assert value == pytest.approx(expected, abs=5 * error + 1e-6)


@given(st.floats(-30, 30), st.floats(0.01, 10))
def test_of_one_objective_its_hypervolume_is_expected_improvement(mean: float, deviation: float) -> None:
    means, deviations = np.array([mean]), np.array([deviation])
    lower, upper = boxes(np.array([[0.7], [0.3]]), np.array([1.0]))
    logs = log_expected_hypervolume(means[:, None], deviations[:, None], lower, upper)
    np.testing.assert_allclose(logs, log_expected_improvement(means, deviations, 0.3), rtol=1e-12)


@pytest.mark.parametrize("objectives", [2, 3])
def test_far_candidates_are_still_told_apart(objectives: int) -> None:
    """Where the improvement itself is 0 in floats, its logarithm still falls with the distance."""
    points = np.random.default_rng(0).random((10, objectives))
    away = np.linspace(2, 2000, 60)[:, None] * np.ones(objectives)
    logs = log_expected_hypervolume(away, np.full_like(away, 0.1), *boxes(points, np.full(objectives, 1.1)))
    assert np.isfinite(logs).all()
    assert (np.diff(logs) < 0).all()
    assert logs[-1] < -1e6


def test_a_sure_point_wins_what_it_adds() -> None:
    points, reference = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]), np.array([1.2, 1.2])
    mean = np.array([[0.2, 0.6], [0.6, 0.6]])
    volumes = np.exp(log_expected_hypervolume(mean, np.full((2, 2), 1e-7), *boxes(points, reference)))
    assert volumes[0] == pytest.approx((0.5 - 0.2) * (1.0 - 0.6), rel=1e-4)
    assert volumes[1] < 1e-6


def test_more_boxes_than_a_block_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    mean, deviation, cut = rng.random((20, 2)), np.full((20, 2), 0.2), boxes(rng.random((9, 2)), np.ones(2))
    whole = log_expected_hypervolume(mean, deviation, *cut)
    monkeypatch.setattr("modelopt_cli.tuning.samplers._gp.acquisition.BLOCK", 7)
    np.testing.assert_array_equal(log_expected_hypervolume(mean, deviation, *cut), whole)
