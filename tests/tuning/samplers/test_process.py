"""The Gaussian process of `bayesian`, against numerical derivatives and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from modelopt_cli.tuning.samplers._common.encoding import Points
from modelopt_cli.tuning.samplers._gp.process import HyperPosterior, Process, fitted, fitted_alike, fitted_sharply


def random_points(count: int, numbers: int, categories: int, seed: int = 0) -> Points:
    rng = np.random.default_rng(seed)
    return Points(rng.random((count, numbers)), rng.integers(-1, 3, (count, categories)))


@pytest.mark.parametrize(("numbers", "categories"), [(3, 2), (4, 0), (0, 2), (1, 1)])
def test_the_gradient_of_the_posterior_is_that_of_differences(numbers: int, categories: int) -> None:
    rng = np.random.default_rng(1)
    posterior = HyperPosterior(random_points(25, numbers, categories), rng.standard_normal(25))
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
    ours = Process(Points(points, none), targets, hyper)
    kernel = ConstantKernel(1.5) * Matern([0.3, 0.7], nu=2.5) + WhiteKernel(0.01)
    theirs = GaussianProcessRegressor(kernel, optimizer=None, alpha=1e-8).fit(points, targets)
    mean, deviation = ours.predict(Points(fresh, none[:10]))
    expected, noisy = theirs.predict(fresh, return_std=True)
    np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(deviation, np.sqrt(noisy**2 - 0.01), rtol=1e-2)


def test_a_fitted_process_predicts_what_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    points, codes = rng.random((60, 2)), rng.integers(0, 2, (60, 1))
    truth = np.where(codes[:, 0] == 0, np.sin(6 * points[:, 0]), points[:, 1] ** 3)
    targets = (truth - truth.mean()) / truth.std()
    process = Process(Points(points[:45], codes[:45]), targets[:45])
    mean, deviation = process.predict(Points(points[45:], codes[45:]))
    assert np.abs(mean - targets[45:]).mean() < 0.15
    assert (np.abs(mean - targets[45:]) < 4 * deviation + 0.05).all()
    unknown = process.predict(Points(points[:1], np.array([[2]])))[1]
    assert unknown[0] > 3 * deviation.max(), "another category tells little"


def test_fantasizing_all_at_once_is_fantasizing_one_by_one() -> None:
    rng = np.random.default_rng(0)
    points, fresh, none = rng.random((20, 2)), rng.random((8, 2)), np.zeros((20, 0), dtype=np.int64)
    targets = np.sin(5 * points[:, 0])
    hyper = np.concatenate([np.log([0.3, 0.7]), np.zeros(4), np.log([1.5, 0.01])])
    seen, asked = Points(points[:12], none[:12]), Points(fresh, none[:8])
    plain = Process(seen, targets[:12], hyper)
    whole = Points(points, none)
    at_once = plain.with_points(whole, np.append(targets[:12], plain.predict(Points(points[12:], none[12:]))[0]))
    one_by_one, y = plain, targets[:12]
    for i in range(12, 20):
        y = np.append(y, one_by_one.predict(Points(points[i : i + 1], none[:1]))[0])
        one_by_one = plain.with_points(Points(points[: i + 1], none[: i + 1]), y)
    for first, second in zip(at_once.predict(asked), one_by_one.predict(asked), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-6)


def test_the_joint_covariance_is_that_of_every_pair() -> None:
    rng = np.random.default_rng(0)
    process = Process(Points(rng.random((12, 2)), rng.integers(0, 3, (12, 1))), rng.standard_normal(12))
    new = Points(rng.random((5, 2)), rng.integers(0, 3, (5, 1)))
    queries = process.at(new)
    joint = process.joint(queries)
    one, other = np.divmod(np.arange(25), 5)
    pairs = [process.at(Points(new.numbers[each], new.categories[each])) for each in (one, other)]
    np.testing.assert_allclose(joint.ravel(), process.paired_covariance(*pairs)[0], atol=1e-10)
    np.testing.assert_allclose(np.sqrt(np.diag(joint)), process.posterior(queries)[1], atol=1e-10)
    assert np.linalg.eigvalsh(joint).min() > 0.0


def paraboloid(count: int, noise: float) -> tuple[Points, np.ndarray]:
    rng = np.random.default_rng(3)
    numbers = rng.random((count, 2))
    losses = ((numbers - [0.3, 0.6]) ** 2).sum(1) + noise * rng.standard_normal(count)
    return Points(numbers, np.zeros((count, 0), dtype=np.int64)), (losses - losses.mean()) / losses.std()


def test_exact_losses_are_taken_for_what_they_are() -> None:
    """A paraboloid is known to many digits from 25 trials, unless noise has to be reckoned with."""
    points, targets = paraboloid(40, 0.0)
    some = points.take(np.arange(25))
    usual = Process(some, targets[:25])
    assert not usual.exact
    for fit in (fitted_sharply, fitted_alike):
        sharp = Process(some, targets[:25], fit(some, targets[:25]))
        assert sharp.exact
        misses = [np.abs(process.predict(points)[0] - targets)[25:].mean() for process in (sharp, usual)]
        assert misses[0] < 0.7 * misses[1]


def test_noisy_losses_and_few_trials_keep_the_usual_noise() -> None:
    points, targets = paraboloid(40, 0.05)
    np.testing.assert_array_equal(fitted_sharply(points, targets), fitted(points, targets))
    points, targets = paraboloid(14, 0.0)
    np.testing.assert_array_equal(fitted_sharply(points, targets), fitted(points, targets))
    assert not Process(points, targets, fitted_alike(points, targets)).exact
