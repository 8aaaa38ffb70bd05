"""scikit-optimize's surrogates and acquisition functions, mended and asked one suggestion at a time."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import norm

from modelopt_cli.core.seeds import derive
from modelopt_cli.tuning.samplers._skopt import fit, merit, subset
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import State, Trial
from tests.support.sampler_histories import CONDITIONAL, SMOOTH, best, build, check, history, search, smooth


@pytest.mark.slow
@pytest.mark.parametrize("acquisition", ["ei", "pi", "lcb", "hedge", "eips"])
@pytest.mark.parametrize("surrogate", ["gp", "forest", "extra_trees", "gbrt"])
def test_every_surrogate_with_every_acquisition(surrogate: str, acquisition: str) -> None:
    trials = history(CONDITIONAL, 16)
    sampler = build("skopt", surrogate=surrogate, acquisition=acquisition)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings = sampler.suggest(CONDITIONAL, trials, np.random.default_rng(1), 1)
    check(CONDITIONAL, trials, settings)
    assert len(settings) == 1


def test_improvement_per_second_is_divided_by_the_seconds_expected() -> None:
    mean, deviation, best = np.array([0.0, -0.5, 0.3]), np.array([1.0, 0.5, 0.2]), -0.2
    log_seconds, doubt = np.array([1.0, 2.0, 0.0]), np.array([0.1, 0.4, 0.2])
    z = (best - mean) / deviation
    improvement = deviation * (z * norm.cdf(z) + norm.pdf(z))
    merits = merit("eips", (mean, deviation), best, 0.0, 1.96, (log_seconds, doubt))
    expected = improvement * np.exp(-log_seconds + 0.5 * doubt**2)  # E[1 / t] of a log-normal t
    np.testing.assert_allclose(merits / merits[0], expected / expected[0], rtol=1e-9)


def test_improvement_per_second_prefers_the_quicker_of_equals() -> None:
    space = Space.from_spec({"x": {"float": [0, 1]}, "quick": {"float": [0, 1]}})
    sampler = {name: build("skopt", acquisition=name, initial_points=4) for name in ("ei", "eips")}
    rng = np.random.default_rng(0)
    trials = []
    for number in range(14):
        params = space.sample(rng)
        seconds = 0.1 * 1000.0 ** (1 - params["quick"])
        loss = (params["x"] - 0.6) ** 2
        trials.append(Trial(number, params, 1, State.COMPLETED, losses=(loss,), seconds=seconds))

    def quickness(name: str) -> float:
        settings = [sampler[name].suggest(space, trials, np.random.default_rng(seed), 1)[0] for seed in range(4)]
        return float(np.mean([params["quick"] for params in settings]))

    assert quickness("eips") > 0.85
    assert quickness("ei") < 0.5
    untimed = [Trial(t.number, t.params, 1, t.state, losses=t.losses) for t in trials]
    pair = [sampler[n].suggest(space, untimed, np.random.default_rng(3), 1) for n in ("ei", "eips")]
    assert pair[0] == pair[1], "without times it is the expected improvement"


@pytest.mark.parametrize("design", ["sobol", "lhs", "random"])
def test_the_initial_design_fills_the_space(design: str) -> None:
    space = Space.from_spec({"x": {"float": [0, 1]}, "y": {"float": [0, 1]}})
    trials: list[Trial] = []
    sampler = build("skopt", initial_points=8, initial_design=design)
    for number in range(8):
        params = sampler.suggest(space, trials, np.random.default_rng(derive(1, "ask", number)), 1)[0]
        trials.append(Trial(number, params, derive(1, "trial", number), State.FAILED))
    x = np.array([[trial.params["x"], trial.params["y"]] for trial in trials[1:]])  # the first has a seed of its own
    if design != "random":
        assert len(np.unique(np.floor(x * 8)[:, 0])) == 7  # one a slice: stratified
        assert len(np.unique(np.floor(x * 8)[:, 1])) == 7


def test_a_long_history_is_cut_to_the_best_the_newest_and_some_others() -> None:
    y = np.arange(1000.0)[::-1]
    kept = subset(y, 150, np.random.default_rng(0))
    assert len(kept) == len(set(kept)) == 150
    assert set(range(950, 1000)) <= set(kept)  # best and newest, both
    assert np.array_equal(subset(y[:9], 150, np.random.default_rng(0)), np.arange(9))


def test_scikit_optimizes_process_interpolates_and_knows_its_ignorance() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((25, 2))
    y = np.sin(4 * x[:, 0]) + x[:, 1]
    y = (y - y.mean()) / y.std()
    model = fit("gp", x, y, rng, noise=True)
    mean, std = model.predict(x)
    assert np.abs(mean - y).max() < 0.05
    _, away = model.predict(np.full((1, 2), 3.0))
    assert away[0] > 5 * std.max()
    points = rng.random((5, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-optimize's own formula warns of tiny negative variances
        reference, reference_std = model.model.predict(points, return_std=True)
    ours = model.predict(points)
    np.testing.assert_allclose(ours[0], reference, atol=1e-6)
    np.testing.assert_allclose(ours[1], reference_std, atol=1e-3)
    again = model.with_points(x, y)
    np.testing.assert_allclose(again.predict(x[:5])[0], mean[:5], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("surrogate", ["forest", "extra_trees", "gbrt"])
def test_trees_beat_random_search(surrogate: str) -> None:
    """All is seeded, so that it passes always or never: no false alarm by chance."""
    own = best(search(build("skopt", surrogate=surrogate), SMOOTH, smooth, 20, 0))
    random = [best(search(build("random"), SMOOTH, smooth, 20, seed)) for seed in range(9)]
    assert own < np.median(random)
