"""What `bayesian` finds: minima, branches, fronts, and what it keeps away from."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from modelopt_cli.core.seeds import derive
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
