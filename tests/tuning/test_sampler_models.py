"""What `bayesian` and `tpe` are made of, against closed forms, numerical derivatives and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from modelopt_cli.tuning.samplers._improvement import log_expected_improvement, log_h
from modelopt_cli.tuning.samplers._neighbours import best_first, near
from modelopt_cli.tuning.samplers._parzen import Parzen
from modelopt_cli.tuning.samplers._process import Inputs, Process, _Posterior
from modelopt_cli.tuning.samplers._settings import Settings
from modelopt_cli.tuning.space.space import Space

SPACE = Space.from_spec(
    {
        "lr": {"float": [1e-4, 1.0], "log": True},
        "opt": {
            "choice": [
                {"type": "sgd", "m": {"float": [0.0, 0.99]}},
                {"type": "adam", "b": {"choice": ["x", "y", "z"]}},
            ]
        },
        "width": {"int": [1, 300], "log": True},
    }
)


def inputs(count: int, numbers: int, categories: int, seed: int = 0) -> Inputs:
    rng = np.random.default_rng(seed)
    return Inputs(rng.random((count, numbers)), rng.integers(-1, 3, (count, categories)))


@pytest.mark.parametrize(("numbers", "categories"), [(3, 2), (4, 0), (0, 2), (1, 1)])
def test_the_gradient_of_the_posterior_is_that_of_differences(numbers: int, categories: int) -> None:
    rng = np.random.default_rng(1)
    posterior = _Posterior(inputs(25, numbers, categories), rng.standard_normal(25))
    for start in posterior.starts():
        flat = start + 0.2 * rng.standard_normal(start.shape)
        _, gradient = posterior(flat)
        steps = 1e-5 * np.eye(len(flat))
        differences = [(posterior(flat + step)[0] - posterior(flat - step)[0]) / 2e-5 for step in steps]
        np.testing.assert_allclose(gradient, differences, rtol=1e-5, atol=1e-6)


def test_without_warps_and_categories_it_is_scikit_learns_process() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    rng = np.random.default_rng(0)
    points, fresh = rng.random((30, 2)), rng.random((10, 2))
    targets = np.sin(5 * points[:, 0]) + points[:, 1] + 0.1 * rng.standard_normal(30)
    none = np.zeros((30, 0), dtype=np.int64)
    hyper = np.concatenate([np.log([0.3, 0.7]), np.zeros(4), np.log([1.5, 0.01])])
    ours = Process(Inputs(points, none), targets, hyper)
    kernel = ConstantKernel(1.5) * Matern([0.3, 0.7], nu=2.5) + WhiteKernel(0.01)
    theirs = GaussianProcessRegressor(kernel, optimizer=None, alpha=1e-8).fit(points, targets)
    mean, deviation = ours.predict(Inputs(fresh, none[:10]))
    expected, noisy = theirs.predict(fresh, return_std=True)
    np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(deviation, np.sqrt(noisy**2 - 0.01), rtol=1e-2)


def test_a_fitted_process_predicts_what_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    points, codes = rng.random((60, 2)), rng.integers(0, 2, (60, 1))
    truth = np.where(codes[:, 0] == 0, np.sin(6 * points[:, 0]), points[:, 1] ** 3)
    targets = (truth - truth.mean()) / truth.std()
    process = Process(Inputs(points[:45], codes[:45]), targets[:45])
    mean, deviation = process.predict(Inputs(points[45:], codes[45:]))
    assert np.abs(mean - targets[45:]).mean() < 0.15
    assert (np.abs(mean - targets[45:]) < 4 * deviation + 0.05).all()
    unknown = process.predict(Inputs(points[:1], np.array([[2]])))[1]
    assert unknown[0] > 3 * deviation.max(), "another category tells little"


def test_believing_all_at_once_is_believing_one_by_one() -> None:
    rng = np.random.default_rng(0)
    points, fresh, none = rng.random((20, 2)), rng.random((8, 2)), np.zeros((20, 0), dtype=np.int64)
    targets = np.sin(5 * points[:, 0])
    hyper = np.concatenate([np.log([0.3, 0.7]), np.zeros(4), np.log([1.5, 0.01])])
    seen, asked = Inputs(points[:12], none[:12]), Inputs(fresh, none[:8])
    plain = Process(seen, targets[:12], hyper)
    whole = Inputs(points, none)
    at_once = plain.with_points(whole, np.append(targets[:12], plain.predict(Inputs(points[12:], none[12:]))[0]))
    one_by_one, y = plain, targets[:12]
    for i in range(12, 20):
        y = np.append(y, one_by_one.predict(Inputs(points[i : i + 1], none[:1]))[0])
        one_by_one = plain.with_points(Inputs(points[: i + 1], none[: i + 1]), y)
    for first, second in zip(at_once.predict(asked), one_by_one.predict(asked), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-6)


@given(st.floats(-50, 20))
def test_log_h_is_the_logarithm_of_the_closed_form(z: float) -> None:
    [found] = log_h(np.array([z]))
    if z > -5:
        assert found == pytest.approx(np.log(norm.pdf(z) + z * norm.cdf(z)), rel=1e-6)
    else:  # phi(z) / z² (1 - 3 / z² + 15 / z⁴ - ...), which encloses it
        series = 1 - 3 / z**2 + 15 / z**4
        low, high = (norm.logpdf(z) - 2 * np.log(-z) + np.log(term) for term in (series - 105 / z**6, series))
        assert low - 1e-9 <= found <= high + 1e-9


def test_log_h_never_gives_up() -> None:
    z = -np.logspace(0, 8, 400)
    found = log_h(z)
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()


def test_expected_improvement_is_its_integral() -> None:
    mean, deviation, best = 0.7, 0.4, 0.2
    integral, _ = quad(lambda f: (best - f) * norm.pdf(f, mean, deviation), -8, best)
    found = log_expected_improvement(np.array([mean]), np.array([deviation]), best)
    assert np.exp(found[0]) == pytest.approx(integral, rel=1e-6)


def parzen(points: list[float], codes: list[int]) -> Parzen:
    own = Inputs(np.array(points)[:, None], np.array(codes, dtype=np.int64)[:, None])
    return Parzen(own, np.isnan(own.numbers), np.array([3]), np.ones(len(points)))


def test_a_parzen_density_integrates_to_one() -> None:
    estimator = parzen([0.02, 0.5, 0.97], [0, 2, 2])
    line = (np.arange(4000) + 0.5) / 4000
    total = 0.0
    for code in range(3):
        grid = Inputs(line[:, None], np.full((4000, 1), code))
        total += np.exp(estimator.log_density(grid, np.zeros((4000, 1), dtype=bool))).mean()
    assert total == pytest.approx(1.0, abs=1e-4)


def test_parzen_draws_follow_their_density() -> None:
    estimator = parzen([0.1, 0.15, 0.8], [0, 0, 1])
    drawn = estimator.sample(np.random.default_rng(0), 40_000)
    for code in range(3):
        mine = drawn.numbers[drawn.categories[:, 0] == code, 0]
        counts = np.histogram(mine, bins=10, range=(0, 1))[0] / 40_000
        line = (np.arange(1000) + 0.5) / 1000
        grid = Inputs(line[:, None], np.full((1000, 1), code))
        density = np.exp(estimator.log_density(grid, np.zeros((1000, 1), dtype=bool)))
        np.testing.assert_allclose(counts, density.reshape(10, 100).mean(1) / 10, atol=0.01)


def test_a_parameter_that_does_not_count_says_nothing() -> None:
    own = Inputs(np.array([[0.2], [0.5]]), np.array([[0], [-1]]))
    estimator = Parzen(own, np.array([[False], [True]]), np.array([2]), np.ones(2))
    asked = Inputs(np.array([[0.2], [0.9]]), np.array([[-1], [-1]]))
    both = estimator.log_density(asked, np.array([[True], [True]]))
    np.testing.assert_allclose(both, 0.0, atol=1e-12)


def test_settings_go_to_numbers_and_categories_and_back() -> None:
    settings = Settings(SPACE)
    codes = settings.snap(np.random.default_rng(0).random((200, SPACE.dim)))
    found = settings.inputs(codes)
    again = settings.snap(settings.codes(found))
    np.testing.assert_allclose(again, codes, atol=1e-12)
    assert [SPACE.decode(code) for code in again] == [SPACE.decode(code) for code in codes]
    assert (found.categories[:, 0] >= 0).all(), "the choice itself always counts"
    assert ((found.categories[:, 1] >= 0) == (found.categories[:, 0] == 1)).all()
    absent = settings.absent(codes)
    assert (absent[:, 1] == (found.categories[:, 0] == 1)).all(), "momentum is of sgd alone"


@given(st.integers(0, 1000))
def test_neighbours_stay_in_the_cube_and_the_order_is_by_merit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.random((3, 4))
    centres[0, 2] = np.nan
    found = near(centres, 0.1, 50, rng)
    assert found.shape == (50, 4)
    assert ((found >= 0) & (found <= 1)).all()
    merit = rng.standard_normal(50)
    first = next(iter(best_first(found, merit, centres[1:])))
    apart = np.abs(found[:, None] - centres[None, 1:]).max(2).min(1) >= 1e-3
    np.testing.assert_array_equal(first, found[apart][np.argmax(merit[apart])])
