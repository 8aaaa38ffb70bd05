"""The classifier of failures: Laplace's approximation by its definition and by sampling, and walls as planes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from modelopt_cli.core.errors import TrialError
from modelopt_cli.tuning.samplers._common.encoding import Encoding
from modelopt_cli.tuning.samplers._gp.classifier import Array, Axes, Classifier, _mode
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.study import Study

SIZES: dict[str, Any] = {
    "batch": {"int": [8, 1024], "log": True},
    "width": {"int": [16, 2048], "log": True},
    "depth": {"int": [1, 16]},
    "rate": {"float": [1e-5, 1.0], "log": True},
}


def smooth(codes: Array, others: Array) -> Array:
    return np.asarray(np.exp(-2.0 * ((codes[:, None] - others[None]) ** 2).sum(2)))


def labelled(count: int, seed: int) -> tuple[Array, Array]:
    codes = np.random.default_rng(seed).random((count, 2))
    return codes, np.where(codes.sum(1) > 1.0, 1.0, -1.0)


def test_the_mode_is_the_most_probable_latent_function() -> None:
    """The private name is read because nothing public shows the mode: scipy's minimiser is the oracle."""
    codes, labels = labelled(12, 0)
    covariance = 4.0 * smooth(codes, codes) + 1e-6 * np.eye(12)

    def energy(weights: Array) -> float:  # f = K w, so that the prior's term is w K w / 2
        latent = covariance @ weights
        return float(0.5 * weights @ latent - norm.logcdf(labels * latent).sum())

    mode = _mode(covariance, labels)
    optimum = minimize(energy, np.zeros(12), options={"gtol": 1e-9, "maxiter": 5000})
    latent = covariance @ mode.gradient  # at the mode f = K d log p(y | f) / df
    assert energy(mode.gradient) == pytest.approx(optimum.fun, abs=1e-3)
    np.testing.assert_allclose(latent, covariance @ optimum.x, atol=0.05)


def test_the_evidence_is_near_that_of_sampling() -> None:
    """Laplace's value is an approximation: for a mild prior it is good to some hundredths."""
    codes, labels = labelled(4, 1)
    covariance = smooth(codes, codes) + 1e-6 * np.eye(4)
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(4), covariance, size=200_000)
    sampled = np.log(norm.cdf(labels * draws).prod(1).mean())
    assert _mode(covariance, labels).evidence == pytest.approx(sampled, abs=0.05)


def classifier(encoding: Encoding, codes: Array, labels: Array) -> Classifier:
    filled = np.nan_to_num
    return Classifier(
        codes,
        labels,
        Axes(encoding),
        lambda one, other: smooth(filled(one, nan=0.5), filled(other, nan=0.5)),
        np.random.default_rng(0),
    )


def test_a_product_of_sizes_is_learned_from_few_trials() -> None:
    """A wall batch x width x depth <= limit, of 40 trials: nine settings of ten that are off it are told apart."""
    space = Space.from_spec(SIZES)
    rng = np.random.default_rng(0)

    def drawn(count: int) -> tuple[Array, Array]:
        settings = [space.sample(rng) for _ in range(count)]
        sizes = np.array([p["batch"] * p["width"] * p["depth"] for p in settings])
        return np.stack([space.encode(p) for p in settings]), np.log(1e5 / sizes)

    codes, margins = drawn(40)
    fresh, beyond = drawn(500)
    probability = np.exp(classifier(Encoding(space), codes, np.sign(margins)).log_probability(fresh))
    assert ((probability > 0.5) == (beyond > 0))[np.abs(beyond) > 0.3].mean() > 0.9
    sure = probability > 0.85
    assert sure.mean() > 0.2
    assert (beyond[sure] > 0).mean() > 0.93, "what it is sure of seldom fails"


def test_probabilities_lie_between_none_and_one_and_far_from_trials_nothing_is_certain() -> None:
    space = Space.from_spec({"x": {"float": [0.0, 1.0]}, "y": {"float": [0.0, 1.0]}})
    codes = np.array([[0.1, 0.5], [0.15, 0.5], [0.2, 0.5]])
    logs = classifier(Encoding(space), codes, np.array([1.0, 1.0, -1.0])).log_probability(
        np.random.default_rng(0).random((200, 2))
    )
    assert (logs <= 0).all()
    assert np.isfinite(logs).all()
    one = classifier(Encoding(space), codes, -np.ones(3)).log_probability(np.array([[0.15, 0.5], [0.95, 0.0]]))
    assert one[0] < one[1] < np.log(0.6), "all have failed: next to them more surely than elsewhere"


def test_axes_are_the_own_one_and_the_logarithm_and_zero_where_a_number_does_not_count() -> None:
    space = Space.from_spec(
        {
            "a": {"float": [1.0, 100.0]},
            "b": {"float": [1.0, 100.0], "log": True},
            "c": {"choice": [8, 16, 64]},
            "d": {"choice": [{"type": "deep", "n": {"int": [1, 9]}}, {"type": "flat"}]},
        }
    )
    settings = [
        {"a": 10.0, "b": 10.0, "c": 16, "d": {"type": "deep"}, "d.n": 9},
        {"a": 100.0, "b": 1.0, "c": 64, "d": {"type": "flat"}},
    ]
    codes = np.stack([space.encode(setting) for setting in settings])
    axes = Axes(Encoding(space))(codes)
    # own axes of a, b, c, n (the middle of its share); then the logarithms of a, c and n (b is one by itself)
    assert axes[0] == pytest.approx([-0.818, 0.0, 0.0, 8 / 9, 0.0, -1 / 3, 0.954], abs=1e-3)
    assert axes[1] == pytest.approx([1.0, -1.0, 2 / 3, 0.0, 1.0, 1.0, 0.0], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "most"), [("bayesian", 0.2), ("tpe", 0.2)])
def test_a_search_wastes_few_trials_beyond_a_memory_wall(sampler: str, most: float) -> None:
    """Bigger is better, and 60% of even draws do not fit. All is seeded, so that it passes always or never."""
    study = Study(SIZES, sampler, seed=0)
    failed = []
    for _ in range(45):
        trial = study.ask()
        p = trial.params
        size = p["batch"] * p["width"] * p["depth"]
        failed.append(size > 1e5)
        rate = (np.log10(p["rate"]) + 3.0) ** 2
        study.tell(trial, TrialError("memory", "out of memory") if failed[-1] else 0.1 * rate - 0.1 * np.log(size))
    assert np.mean(failed[:8]) > 0.3
    assert np.mean(failed[20:]) <= most
    assert study.best is not None
    assert study.best.loss is not None
    assert study.best.loss < -0.95, "the best that fits is -1.15"
