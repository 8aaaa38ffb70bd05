"""What is particular to one sampler (what all promise: test_sampler_contract.py)."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest

from modelopt_cli.core.seeds import derive
from modelopt_cli.tuning.space.space import Space, SpaceError
from modelopt_cli.tuning.trials.trial import Params, State, Trial
from tests.support.sampler_histories import CONDITIONAL, FINITE, SMOOTH, best, build, check, history, search, smooth


@pytest.mark.slow
@pytest.mark.parametrize("acquisition", ["ei", "pi", "lcb", "hedge", "eips"])
@pytest.mark.parametrize("surrogate", ["gp", "forest", "extra_trees", "gbrt"])
def test_every_surrogate_with_every_acquisition(surrogate: str, acquisition: str) -> None:
    trials = history(CONDITIONAL, 16)
    sampler = build("skopt", surrogate=surrogate, acquisition=acquisition)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = sampler.suggest(CONDITIONAL, trials, np.random.default_rng(1), 1)
    check(CONDITIONAL, trials, found)
    assert len(found) == 1


def test_improvement_per_second_is_divided_by_the_seconds_expected() -> None:
    from scipy.stats import norm

    from modelopt_cli.tuning.samplers._surrogates import merit

    mean, deviation, best = np.array([0.0, -0.5, 0.3]), np.array([1.0, 0.5, 0.2]), -0.2
    log_seconds, doubt = np.array([1.0, 2.0, 0.0]), np.array([0.1, 0.4, 0.2])
    z = (best - mean) / deviation
    improvement = deviation * (z * norm.cdf(z) + norm.pdf(z))
    found = merit("eips", (mean, deviation), best, 0.0, 1.96, (log_seconds, doubt))
    expected = improvement * np.exp(-log_seconds + 0.5 * doubt**2)  # E[1 / t] of a log-normal t
    np.testing.assert_allclose(found / found[0], expected / expected[0], rtol=1e-9)


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
        found = [sampler[name].suggest(space, trials, np.random.default_rng(seed), 1)[0] for seed in range(4)]
        return float(np.mean([params["quick"] for params in found]))

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


# Grid


def test_grid_is_the_spaces_grid_in_its_order() -> None:
    sampler, trials = build("grid"), []
    for points in itertools.batched(FINITE.grid(), 2) if hasattr(itertools, "batched") else _pairs(FINITE):
        found = sampler.suggest(FINITE, trials, np.random.default_rng(0), 2)
        assert found == list(points)
        trials += [Trial(len(trials) + i, params, 0, State.RUNNING) for i, params in enumerate(found)]
    assert sampler.exact
    initial = [Trial(0, FINITE.grid_point(1), 0, State.COMPLETED, origin="initial")]
    assert sampler.suggest(FINITE, initial, np.random.default_rng(0), 2) == [FINITE.grid_point(0), FINITE.grid_point(2)]


def _pairs(space: Space) -> list[list[Params]]:
    points = list(space.grid())
    return [points[i : i + 2] for i in range(0, len(points), 2)]


def test_grid_refuses_a_continuous_float() -> None:
    with pytest.raises(SpaceError, match="give it a step or a count"):
        build("grid").suggest(Space.from_spec({"x": {"float": [0, 1]}}), [], np.random.default_rng(0), 1)


# Sobol


def test_sobol_is_one_sequence_of_scipys() -> None:
    from scipy.stats import qmc

    space = Space.from_spec({"x": {"float": [0, 1]}, "y": {"float": [-1, 1]}})
    trials: list[Trial] = []
    for number in range(16):
        params = build("sobol", seed=4).suggest(space, trials, np.random.default_rng(number), 1)[0]
        trials.append(Trial(number, params, number))
    found = np.stack([space.encode(trial.params) for trial in trials])
    expected = qmc.Sobol(2, scramble=True, rng=np.random.default_rng(4)).random(16)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)


def test_sobol_differs_between_searches_and_not_within_one() -> None:
    space = Space.from_spec({"x": {"float": [0, 1]}})

    def point(trial_seed: int, ask_seed: int) -> float:
        trials = [Trial(0, {"x": 0.123}, trial_seed, origin="file")]
        return float(build("sobol").suggest(space, trials, np.random.default_rng(ask_seed), 1)[0]["x"])

    assert point(1, 1) == point(1, 2)
    assert point(1, 1) != point(2, 1)


# Learning


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("bayesian", {}), ("skopt", {}), ("skopt", {"acquisition": "lcb"})])
def test_a_process_beats_random_search_on_a_smooth_function(name: str, options: dict[str, Any]) -> None:
    own = [best(search(build(name, **options), SMOOTH, smooth, 25, seed)) for seed in range(2)]
    random = [best(search(build("random"), SMOOTH, smooth, 100, seed)) for seed in range(2)]
    assert max(own) < 0.25 * min(random)  # with a quarter of the trials


@pytest.mark.slow
@pytest.mark.parametrize("surrogate", ["forest", "extra_trees", "gbrt"])
def test_trees_beat_random_search(surrogate: str) -> None:
    own = best(search(build("skopt", surrogate=surrogate), SMOOTH, smooth, 20, 0))
    random = [best(search(build("random"), SMOOTH, smooth, 20, seed)) for seed in range(9)]
    assert own < np.median(random)


def test_bayesian_learns_from_failures_and_constraints() -> None:
    space = Space.from_spec({"x": {"float": [0, 1]}, "y": {"float": [0, 1]}})
    trials = search(
        build("bayesian"), space, lambda p: None if p["x"] > 0.5 else (p["x"] - 0.4) ** 2 + p["y"] ** 2, 28, 0
    )
    late = trials[14:]
    assert sum(trial.state is State.FAILED for trial in late) <= len(late) // 4
    assert best(trials) < 1e-2


def test_bayesian_finds_the_right_branch() -> None:
    space = Space.from_spec(
        {"o": {"choice": [{"t": "a", "m": {"float": [0, 1]}}, {"t": "b", "m": {"float": [0, 1]}}, {"t": "c"}]}}
    )

    def loss(params: Params) -> float:
        return {"a": 1.0, "b": 0.0, "c": 0.8}[params["o"]["t"]] + (params.get("o.m", 0.0) - 0.3) ** 2

    trials = search(build("bayesian"), space, loss, 22, 0)
    assert best(trials) < 1e-3
    assert sum(trial.params["o"]["t"] == "b" for trial in trials[10:]) >= 6


def test_bayesian_spreads_over_the_front_of_two_objectives() -> None:
    space = Space.from_spec({"x": {"float": [0, 1]}, "y": {"float": [0, 1]}})
    trials: list[Trial] = []
    for number in range(30):
        params = build("bayesian").suggest(space, trials, np.random.default_rng(derive(0, number)), 1)[0]
        losses = (params["x"] ** 2 + params["y"], (params["x"] - 1) ** 2 + params["y"])  # front: y = 0, any x
        trials.append(Trial(number, params, derive(0, "trial", number), State.COMPLETED, losses=losses))
    late = np.array([[trial.params["x"], trial.params["y"]] for trial in trials[12:]])
    assert np.median(late[:, 1]) < 0.1
    assert np.ptp(late[:, 0]) > 0.5


def test_pending_trials_push_suggestions_apart() -> None:
    space = Space.from_spec({"x": {"float": [0, 1]}, "y": {"float": [0, 1]}})
    trials = search(build("random"), space, lambda p: (p["x"] - 0.5) ** 2 + (p["y"] - 0.5) ** 2, 15, 0)
    batch = build("bayesian").suggest(space, trials, np.random.default_rng(0), 4)
    points = np.array([[params["x"], params["y"]] for params in batch])
    gaps = [float(np.linalg.norm(a - b)) for a, b in itertools.combinations(points, 2)]
    assert min(gaps) > 1e-3
    running = [*trials, Trial(15, batch[0], 0, State.RUNNING)]
    alone = build("bayesian").suggest(space, trials, np.random.default_rng(7), 1)[0]
    beside = build("bayesian").suggest(space, running, np.random.default_rng(7), 1)[0]
    assert alone != beside


def test_a_long_history_is_cut_to_the_best_the_newest_and_some_others() -> None:
    from modelopt_cli.tuning.samplers._model_based import _subset

    y = np.arange(1000.0)[::-1]
    kept = _subset(y, 150, np.random.default_rng(0))
    assert len(kept) == len(set(kept)) == 150
    assert set(range(950, 1000)) <= set(kept)  # best and newest, both
    assert np.array_equal(_subset(y[:9], 150, np.random.default_rng(0)), np.arange(9))


# Numbers behind the surrogates


def test_features_of_snapped_points_are_those_of_their_settings() -> None:
    from modelopt_cli.tuning.samplers._features import Features

    rng = np.random.default_rng(0)
    u = rng.random((200, CONDITIONAL.dim))
    snapped = Features(CONDITIONAL).snap(u)
    exact = np.stack([CONDITIONAL.encode(CONDITIONAL.decode(row)) for row in u])
    np.testing.assert_allclose(snapped, exact, rtol=0, atol=1e-12)
    features = Features(CONDITIONAL).matrix(snapped)
    assert (
        features.shape[1] == 1 + 2 + 1 + 2 + 1 + 1 + 1 + 3 + 1
    )  # lr, opt, m, n, k, hidden, batch (ordered), act, size
    assert np.all((features >= 0) & (features <= 1))


def test_targets_are_drawn_in_penalised_and_failures_come_last() -> None:
    from modelopt_cli.tuning.samplers._history import read, softened

    losses = np.array([0.0, 1.0, 2.0, 3.0, 100.0])
    assert softened(losses, losses).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0 + np.log1p(96 / 2)]
    assert softened(losses + 7.0, losses[:1]).tolist() == (losses + 7.0).tolist(), "nothing to go by"
    equal = np.array([1.0, 1.0, 5.0])
    assert softened(equal, equal).tolist() == [1.0, 1.0, 5.0]
    told: list[tuple[float, float]] = [(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (-9.0, 1.0), (-8.0, 3.0)]
    trials = [
        Trial(i, {}, 0, State.COMPLETED, losses=(loss,), violation=violation)
        for i, (loss, violation) in enumerate(told)
    ]
    trials += [Trial(5, {}, 0, State.FAILED), Trial(6, {}, 0, State.RUNNING)]
    found = read(trials, np.random.default_rng(0))
    np.testing.assert_allclose(9 * found.y, [0.0, 1.0, 2.0, 2.5, 3.0, 3.0])
    assert len(found.pending) == 1


def test_scikit_optimizes_process_interpolates_and_knows_its_ignorance() -> None:
    from modelopt_cli.tuning.samplers._surrogates import fit

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
