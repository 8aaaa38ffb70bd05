"""Regularised evolution: what a mutant is, who may have one, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.tuning.samplers._common.history import fitness
from modelopt_cli.tuning.samplers._evolution import children, members, mutated, reflected
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import State, Trial
from tests.support.sampler_histories import CONDITIONAL, SMOOTH, best, build, search, smooth
from tests.support.space_strategies import spaces


@pytest.mark.slow
@settings(max_examples=60)
@given(spaces(), st.integers(0, 2**31))
def test_a_mutant_differs_in_one_parameter_and_in_what_lies_under_it(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    params = space.sample(rng)
    before = repr(params)
    mutant = mutated(space, params, rng)
    assert space.problem(mutant) is None
    assert repr(params) == before
    roots = [
        position
        for position in space.positions(params)
        if space.parameters[position].key(mutant.get(space.parameters[position].path))
        != space.parameters[position].key(params[space.parameters[position].path])
    ]
    first = roots[0] if roots else None
    free = any(space.parameters[position].size > 1 for position in space.positions(params))
    if space.size < 1e6:
        assert (first is not None) == free, "something changes wherever something can"
    if first is not None:
        under = {child for span in space.below.get(first, ()) for child in range(*span)}
        assert set(roots[1:]) <= under


def trial(number: int, loss: float | None, **changes: object) -> Trial:
    params = {"x": float(number), "y": 1.0, "k": 1}
    state = State.FAILED if loss is None else State.COMPLETED
    return Trial(number, params, 0, state, losses=None if loss is None else (loss,), **changes)  # type: ignore[arg-type]


def test_the_population_is_the_newest_that_have_losses() -> None:
    trials = [trial(0, -9.0), trial(1, 1.0), trial(2, None), trial(3, 0.5), trial(4, 2.0)]
    assert [member.number for member, _ in members(trials, 3)] == [1, 3, 4], "the best is too old, the failed one unfit"
    assert members(trials[:1], 3)[0][1] == (-9.0,)


def test_the_fittest_is_feasible_then_on_the_first_front_then_alone() -> None:
    def entry(losses: tuple[float, ...], violation: float = 0.0) -> tuple[Trial, tuple[float, ...]]:
        return Trial(0, {}, 0, State.COMPLETED, losses=losses, violation=violation), losses

    keys = fitness([entry((1.0,)), entry((0.0,), 1.0), entry((0.5,))])
    assert sorted(range(3), key=keys.__getitem__) == [2, 0, 1]
    keys = fitness([entry((0.0, 1.0)), entry((0.5, 0.5)), entry((0.55, 0.45)), entry((1.0, 0.0)), entry((2.0, 2.0))])
    assert keys[0] == keys[3] < min(keys[1], keys[2]), "the ends of the front"
    assert max(keys) == keys[4]


def test_a_large_tournament_takes_the_best_and_a_small_one_does_not_always() -> None:
    trials = [trial(number, float((number - 3) ** 2)) for number in range(10)]
    space = Space.from_spec({"x": {"float": [-1, 20]}, "y": [1.0], "k": [1, 2]})
    kept = [next(children(space, trials, 10, 200, np.random.default_rng(s))) for s in range(40)]
    assert {params["x"] for params in kept if params["k"] == 2} == {3.0}
    any_ = [next(children(space, trials, 10, 1, np.random.default_rng(s))) for s in range(40)]
    assert len({params["x"] for params in any_ if params["k"] == 2}) > 3


@given(st.floats(-50, 50))
def test_steps_are_mirrored_at_the_ends(code: float) -> None:
    inside = reflected(code)
    assert 0 <= inside <= 1
    turns = [(code - inside) % 2, (code + inside) % 2]
    assert min(*turns, *(2 - turn for turn in turns)) < 1e-9


def test_it_beats_random_search() -> None:
    """All is seeded, so that it passes always or never: no false alarm by chance."""
    own = [best(search(build("evolution"), SMOOTH, smooth, 80, seed)) for seed in range(3)]
    random = [best(search(build("random"), SMOOTH, smooth, 80, seed)) for seed in range(3)]
    assert np.median(own) < 0.5 * np.median(random)


def test_it_spreads_over_the_front_of_two_objectives() -> None:
    space = Space.from_spec({"x": {"float": [0, 1]}, "y": {"float": [0, 1]}})
    trials: list[Trial] = []
    for number in range(120):
        params = build("evolution").suggest(space, trials, np.random.default_rng(number), 1)[0]
        losses = (params["x"] ** 2 + params["y"], (params["x"] - 1) ** 2 + params["y"])  # front: y = 0, any x
        trials.append(Trial(number, params, 7, State.COMPLETED, losses=losses))
    late = np.array([[trial.params["x"], trial.params["y"]] for trial in trials[70:]])
    assert np.median(late[:, 1]) < 0.2
    assert np.ptp(late[:, 0]) > 0.5


def test_options_are_checked() -> None:
    for option in ("population", "tournament"):
        with pytest.raises(ValueError, match=option):
            build("evolution", **{option: 0})
    assert build("evolution", population=3).suggest(CONDITIONAL, [], np.random.default_rng(0), 1)
