"""CMA-ES from a history: the library's own states, remembered ones, categories, restarts.

`_C` and `_sigma` of the library's strategies are private, but there is no other way to see that states are equal.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modelopt_cli.core.errors import MissingExtraError
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import Params, State, Trial
from tests.support.sampler_histories import CONDITIONAL, best, build, history, search

needs_it = pytest.mark.skipif(
    importlib.util.find_spec("cmaes") is None, reason="the extra is missing: pip install 'modelopt-cli[cmaes]'"
)
FLOATS = Space.from_spec({f"x{i}": {"float": [-2, 2]} for i in range(4)})


def rosenbrock(params: Params) -> float:
    x = [params[f"x{i}"] for i in range(4)]
    return float(sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i in range(3)))


def generations(space: Space, earlier: tuple[Trial, ...] = ()) -> Any:
    from modelopt_cli.tuning.samplers._cmaes import Axes, Generations, begin  # imports the library

    axes = Axes(space)
    return Generations(axes, begin(axes, earlier, sigma=0.25, population=None), seed=5)


@needs_it
def test_without_it_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"modelopt-cli\[cmaes\]"):
        Study(FLOATS, "cmaes")


@needs_it
def test_numbers_have_the_librarys_own_states() -> None:
    import cmaes

    trials = search(build("cmaes"), FLOATS, rosenbrock, 45, 0)
    state = generations(FLOATS).state_after(trials)
    theirs = cmaes.CMA(np.full(4, 0.5), 0.25, np.tile([0.0, 1.0], (4, 1)))
    assert theirs.population_size == state.population == 8
    for start in range(0, 40, 8):
        theirs.tell([(FLOATS.encode(trial.params), trial.loss) for trial in trials[start : start + 8]])
    assert (state.generation, state.count) == (5, 40)
    np.testing.assert_allclose(state.strategy.mean, theirs.mean, rtol=1e-12)
    np.testing.assert_allclose(state.strategy._C, theirs._C, rtol=1e-10)
    assert state.strategy._sigma == pytest.approx(theirs._sigma, rel=1e-12)


@needs_it
def test_a_remembered_state_is_that_of_a_replay_and_late_trials_lead_back() -> None:
    trials = [replace(t, number=i) for i, t in enumerate(t for t in history(CONDITIONAL, 200) if t.state.finished)]
    kept = generations(CONDITIONAL)
    for known in (trials[:40], trials[:90], trials[:50] + trials[51:100], trials, trials[:30]):
        state, fresh = kept.state_after(list(known)), generations(CONDITIONAL).state_after(list(known))
        assert (state.generation, state.count) == (fresh.generation, fresh.count)
        np.testing.assert_array_equal(state.strategy.mean, fresh.strategy.mean)
        np.testing.assert_array_equal(state.strategy._C, fresh.strategy._C)
        for mine, other in zip(state.probabilities, fresh.probabilities, strict=True):
            np.testing.assert_array_equal(mine, other)


@needs_it
def test_what_is_remembered_of_one_search_does_not_reach_another() -> None:
    first, second = history(CONDITIONAL, 60), history(CONDITIONAL, 60)
    second[20] = replace(second[20], losses=(-50.0,), state=State.COMPLETED)

    def ask(trials: list[Trial]) -> list[Params]:
        return build("cmaes").suggest(CONDITIONAL, trials, np.random.default_rng(0), 2)

    alone = ask(second)
    ask(first)
    assert ask(second) == alone


@needs_it
def test_categories_move_to_the_good_ones_and_keep_a_margin() -> None:
    from modelopt_cli.tuning.samplers._cmaes import moved_probabilities

    shares: tuple[np.ndarray, ...] = (np.full(4, 0.25), np.full(2, 0.5))
    chosen = np.array([[2, -1]] * 5 + [[0, 1]] * 5)
    for _ in range(300):
        shares = moved_probabilities(shares, chosen)
    assert shares[0].sum() == pytest.approx(1.0)
    assert shares[0][2] > 0.7
    least = (1 - 0.73**0.5) / 3
    assert shares[0].min() >= 0.8 * least
    np.testing.assert_allclose(shares[1], 0.5)  # what does not count is not moved


@needs_it
def test_whole_numbers_do_not_freeze() -> None:
    space = Space.from_spec({"k": {"int": [1, 8]}, "x": {"float": [0, 1]}})
    trials = [Trial(i, {"k": 4, "x": 0.3 + 0.4 * (i % 7) / 7}, 1, State.COMPLETED, losses=(1.0,)) for i in range(120)]
    state = generations(space).state_after(trials)
    drawn = state.draws(generations(space).axes, np.random.default_rng(0))
    others = sum(next(drawn)["k"] != 4 for _ in range(200))
    assert others > 5


@needs_it
def test_a_strategy_that_has_converged_begins_anew_with_twice_as_many() -> None:
    trials = [Trial(i, {f"x{k}": 0.5 for k in range(4)}, 1, State.COMPLETED, losses=(0.0,)) for i in range(10)]
    state = generations(FLOATS).state_after(trials)
    assert state.population == 16
    assert state.strategy.population_size == 16
    assert state.strategy._sigma == 0.25


@needs_it
def test_earlier_trials_give_the_first_mean_and_shares() -> None:
    space = Space.from_spec({"x": {"float": [0, 1]}, "y": {"float": [0, 1]}, "c": ["a", "b", "c"]})
    rng = np.random.default_rng(0)
    params = [space.sample(rng) for _ in range(100)]
    losses = [(p["x"] - 0.8) ** 2 + (p["y"] - 0.2) ** 2 + (p["c"] != "b") for p in params]
    earlier = tuple(Trial(i - 100, p, 1, State.COMPLETED, losses=(v,)) for i, (p, v) in enumerate(zip(params, losses)))  # noqa: B905
    state = generations(space, earlier).state_after([])
    assert np.abs(state.strategy.mean - [0.8, 0.2]).max() < 0.12
    assert state.probabilities[0].argmax() == 1
    settings = build("cmaes").suggest(space, earlier, np.random.default_rng(0), 20)
    assert np.median([p["x"] for p in settings]) > 0.6


@needs_it
def test_it_beats_random_search_where_parameters_depend_on_each_other() -> None:
    """All is seeded, so that it passes always or never: no false alarm by chance."""
    own = [best(search(build("cmaes"), FLOATS, rosenbrock, 250, seed)) for seed in range(2)]
    random = [best(search(build("random"), FLOATS, rosenbrock, 250, seed)) for seed in range(2)]
    assert np.median(own) < 0.2 * np.median(random)


@needs_it
def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="population"):
        build("cmaes", population=3)
    with pytest.raises(ValueError, match="sigma"):
        build("cmaes", sigma=0.0)
