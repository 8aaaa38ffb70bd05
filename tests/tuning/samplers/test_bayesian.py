"""What `bayesian` finds: minima, branches, fronts, and what it keeps away from."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from modelopt_cli.core.seeds import derive
from modelopt_cli.tuning.samplers._gp import suggestion
from modelopt_cli.tuning.samplers._tpe import Estimators
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import Params, State, Trial
from tests.support.sampler_histories import SMOOTH, best, build, search, smooth


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("bayesian", {}), ("skopt", {}), ("skopt", {"acquisition": "lcb"})])
def test_a_process_beats_random_search_on_a_smooth_function(name: str, options: dict[str, Any]) -> None:
    """All is seeded, so that it passes always or never: no false alarm by chance."""
    own = [best(search(build(name, **options), SMOOTH, smooth, 25, seed)) for seed in range(2)]
    random = [best(search(build("random"), SMOOTH, smooth, 100, seed)) for seed in range(2)]
    assert max(own) < 0.25 * min(random)  # with a quarter of the trials


def test_bayesian_learns_from_failures_and_constraints() -> None:
    """All is seeded, so that it passes always or never: no false alarm by chance."""
    space = Space.from_spec({"x": {"float": [0, 1]}, "y": {"float": [0, 1]}})
    trials = search(
        build("bayesian"), space, lambda p: None if p["x"] > 0.5 else (p["x"] - 0.4) ** 2 + p["y"] ** 2, 28, 0
    )
    late = trials[14:]
    assert sum(trial.state is State.FAILED for trial in late) <= len(late) // 4
    assert best(trials) < 1e-2


def test_bayesian_finds_the_right_branch() -> None:
    """All is seeded, so that it passes always or never: no false alarm by chance."""
    space = Space.from_spec(
        {"o": {"choice": [{"t": "a", "m": {"float": [0, 1]}}, {"t": "b", "m": {"float": [0, 1]}}, {"t": "c"}]}}
    )

    def loss(params: Params) -> float:
        return {"a": 1.0, "b": 0.0, "c": 0.8}[params["o"]["t"]] + (params.get("o.m", 0.0) - 0.3) ** 2

    trials = search(build("bayesian"), space, loss, 22, 0)
    assert best(trials) < 1e-3
    assert sum(trial.params["o"]["t"] == "b" for trial in trials[10:]) >= 6


def test_bayesian_spreads_over_the_front_of_two_objectives() -> None:
    """All is seeded, so that it passes always or never: no false alarm by chance."""
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


@pytest.mark.slow
def test_no_two_of_many_under_way_are_the_same() -> None:
    """A mixed space of few values, so that a sampler that looked at finished trials alone would repeat itself."""
    space = Space.from_spec({"k": {"int": [0, 9]}, "c": ["a", "b"], "x": {"float": [0, 1], "step": 0.25}})
    trials = search(build("random"), space, lambda p: (p["k"] - 4) ** 2 + p["x"] + (p["c"] == "a"), 12, 0)
    for number in range(12, 40):
        [params] = build("bayesian").suggest(space, trials, np.random.default_rng(number), 1)
        assert params not in [trial.params for trial in trials]
        trials.append(Trial(number, params, number, State.RUNNING))


def test_a_pending_trial_at_the_best_setting_is_not_crowded() -> None:
    """What is under way will bring its improvement by itself: the next setting has to bring another one."""
    space = Space.from_spec({"x": {"float": [0, 1]}})
    trials = [
        Trial(number, {"x": x}, number, State.COMPLETED, losses=((x - 0.52) ** 2,))
        for number, x in enumerate([0.0, 0.1, 0.2, 0.35, 0.7, 0.8, 0.9, 1.0])
    ]
    [alone] = build("bayesian").suggest(space, trials, np.random.default_rng(0), 1)
    assert alone["x"] == pytest.approx(0.52, abs=0.05)
    running = [*trials, Trial(8, alone, 8, State.RUNNING), Trial(9, {"x": 0.99}, 9, State.RUNNING)]
    [beside] = build("bayesian").suggest(space, running, np.random.default_rng(0), 1)
    assert abs(beside["x"] - alone["x"]) > 1e-3


def test_running_constrained_trials_may_all_turn_out_infeasible() -> None:
    """Until one is feasible there is nothing to improve on; afterwards those under way count where they may be."""
    space = Space.from_spec({"x": {"float": [0, 1]}, "y": {"float": [0, 1]}})
    rng = np.random.default_rng(0)
    trials = []
    for number in range(10):
        params = space.sample(rng)
        margin = params["x"] - 0.6
        state = (State.COMPLETED, (params["y"],), max(-margin, 0.0), (margin,))
        trials.append(Trial(number, params, number, state[0], losses=state[1], violation=state[2], margins=state[3]))
    never = [trial for trial in trials if trial.violation > 0]
    for known in (never, trials):
        running = [*known, *(Trial(n, space.sample(rng), n, State.RUNNING) for n in range(20, 23))]
        suggested = build("bayesian", initial_points=2).suggest(space, running, rng, 2)
        assert len(suggested) == 2
        assert all(space.problem(params) is None for params in suggested)


@pytest.mark.slow
def test_bayesian_finds_the_last_digits_of_a_smooth_function() -> None:
    """All is seeded, so that it passes always or never: no false alarm by chance."""
    space = Space.from_spec({"x": {"float": [-3, 3]}, "y": {"float": [-2, 2]}})

    def camel(params: Params) -> float:
        """The six-hump camel's back, whose least value is known."""
        x, y = params["x"], params["y"]
        return float((4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (-4 + 4 * y**2) * y**2 + 1.0316284534898774)

    lowest = [best(search(build("bayesian"), space, camel, 40, seed)) for seed in range(2)]
    assert max(lowest) < 1e-3


def test_a_neglected_value_is_looked_at_only_once_there_are_many_trials() -> None:
    """With few trials each one counts: the process goes where it expects an improvement. Later it looks beyond."""
    space = Space.from_spec({"kind": ["good", "bad"], "x": {"float": [0, 1]}})
    rng = np.random.default_rng(1)
    trials = []
    for number in range(24):
        params: Params = {"kind": "bad" if number < 3 else "good", "x": float(rng.random())}
        loss = (params["x"] - 0.3) ** 2 + (5.0 if params["kind"] == "bad" else 0.0)
        trials.append(Trial(number, params, number, State.COMPLETED, losses=(loss,)))
    suggested = [
        build("bayesian").suggest(space, trials[:count], np.random.default_rng(0), 1)[0]["kind"]
        for count in (12, 18, 24)
    ]
    assert suggested == ["good", "good", "bad"]


@pytest.mark.parametrize(
    ("spec", "failing", "asked"),
    [({}, False, 0), ({}, True, 1), ({"k": [1, 2]}, False, 1)],
    ids=["numbers", "numbers with failures", "a choice"],
)
def test_numbers_alone_are_the_process_s(
    spec: dict[str, Any], failing: bool, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are choices, or settings that fail, the estimators have every second turn."""
    counted: list[Any] = []

    class Counting(Estimators):
        def __init__(self, *args: Any, **options: Any) -> None:
            counted.append(args)
            super().__init__(*args, **options)

    monkeypatch.setattr(suggestion, "Estimators", Counting)
    space = Space.from_spec({"x": {"float": [0, 1]}, **spec})
    trials = search(build("random"), space, lambda p: None if failing and p["x"] > 0.6 else p["x"], 9, 0)
    assert failing == any(trial.state is State.FAILED for trial in trials)
    build("bayesian").suggest(space, trials, np.random.default_rng(0), 1)
    assert len(counted) == asked
