"""Values that callers of a study have at hand: numpy's, equal numbers of the other kind, integers of 64 bits."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.core.errors import UsageError
from modelopt_cli.tuning.space.space import Space, SpaceError
from modelopt_cli.tuning.study.study import Study
from tests.support.sampler_histories import NAMES

SPACE: dict[str, Any] = {
    "x": {"float": [-5, 5]},
    "k": ["a", "b", None, True, 3],
    "n": {"int": [1, 100], "log": True},
    "o": {"choice": [{"t": 1, "m": {"float": [0.0, 0.5], "step": 0.1}}, {"t": 2}]},
}


@pytest.mark.parametrize(
    "given_params",
    [
        {"x": np.float32(1.5), "k": np.str_("a"), "n": np.int64(7), "o": {"t": np.int64(1)}, "o.m": np.float64(0.3)},
        {"x": np.array(2), "k": np.bool_(True), "n": np.float64(9.0), "o": {"t": np.int16(2)}},
        {"x": 2, "k": np.int8(3), "n": 9.0, "o": {"t": 2}},
    ],
)
def test_equal_values_are_taken_as_the_spaces_own(given_params: dict[str, Any]) -> None:
    study = Study(SPACE, "random")
    trial = study.queue(given_params)
    assert study.space.contains(trial.params)
    assert {type(value) for value in trial.params.values()} <= {float, int, str, bool, dict}
    assert all(trial.params[path] == value for path, value in given_params.items())
    assert study.seen(given_params)
    assert study.queue(given_params).number == trial.number, "it is there already"
    assert study.ask().params == trial.params
    assert study.ask({**given_params, "x": np.float64(0.25)}).params["x"] == 0.25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 7.5}, "n = 7.5 is not in the space"),
        ({"n": True}, "n = True is not in the space"),
        ({"n": np.array([7])}, "n = array"),
        ({"n": np.nan}, "n = nan is not in the space"),
        ({"x": 10**400}, "is not in the space: -5 to 5"),
        ({"k": 3.5}, "3.5 is none of"),
    ],
)
def test_what_is_not_equal_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        Study(SPACE, "random").queue({"x": 1, "k": None, "n": 1, "o": {"t": 2}, **change})


def test_a_whole_number_beyond_any_float_is_told() -> None:
    study = Study(SPACE, "random")
    trial = study.ask()
    for result in (10**400, {"loss": 10**400}):
        with pytest.raises(UsageError, match="'loss' is a whole number beyond any float"):
            study.tell(trial, result)
    with pytest.raises(UsageError, match="beyond any float"):
        study.report(trial, 1, 10**400)
    assert study.tell(trial, np.float32(0.5)).loss == 0.5
    for kind in ("int", "float"):
        with pytest.raises(UsageError, match="x: a bound must be finite, not inf"):
            Study({"x": {kind: [0, 10**400]}})


def test_a_grid_that_cannot_be_listed_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"x is continuous .* give it a step or a count") as caught:
        Study({"x": {"float": [0, 1]}, "y": [1, 2]}, "grid")
    assert not isinstance(caught.value, SpaceError)
    Study({"x": {"float": [0, 1], "count": 3}}, "grid")


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(
    st.tuples(st.integers(-(2**63), 2**63), st.integers(-(2**63), 2**63)),
    st.booleans(),
    st.none() | st.integers(1, 2**40),
    st.floats(0, 1),
    st.data(),
)
def test_whole_numbers_have_up_to_64_bits(
    bounds: tuple[int, int], log: bool, step: int | None, u: float, data: st.DataObject
) -> None:
    low, high = sorted(bounds)
    log = log and low > 0
    space = Space.from_spec({"n": {"int": [low, high], "log": log, **({} if log or step is None else {"step": step})}})
    parameter = space.parameters[0]
    for code in (0.0, u, 1.0):
        assert parameter.contains(parameter.decode(code))
    assert all(parameter.contains(end) for end in parameter.ends)
    index = data.draw(st.integers(0, int(parameter.size) - 1))
    value = parameter.grid_value(index)
    code = parameter.encode(value)
    assert 0.0 <= code <= 1.0
    if parameter.size <= 2**52 and not log:
        assert parameter.decode(code) == value
    elif not log:
        assert abs(parameter.decode(code) - value) <= parameter.size * 2e-16 * (parameter.decode(1.0) - low + 1)


def test_a_logarithmic_axis_of_large_neighbours_has_codes() -> None:
    low = 281_474_963_430_337  # its neighbours have the same logarithm
    parameter = Space.from_spec({"n": {"int": [low, low], "log": True}}).parameters[0]
    assert parameter.encode(low) == 0.5
    assert parameter.decode(0.5) == low


@pytest.mark.parametrize("sampler", NAMES)
def test_every_sampler_draws_seeds_of_64_bits(sampler: str) -> None:
    study = Study({"seed": {"int": [0, 2**63]}, "x": {"float": [0, 1], "step": 0.5}}, sampler, seed=1)
    for _ in range(10):
        trial = study.ask()
        assert type(trial.params["seed"]) is int
        study.tell(trial, trial.params["x"] + trial.params["seed"] / 2**63)
    seeds = [trial.params["seed"] for trial in study.trials]
    assert all(0 <= seed <= 2**63 for seed in seeds)
    assert len(set(seeds)) >= 3
    with pytest.raises(UsageError, match=r"beyond integers of 64 bits"):
        Study({"seed": {"int": [0, 2**64]}})
    assert next(itertools.islice(study.space.every(), 2, None))["seed"] >= 0


def test_bounds_and_values_of_a_space_may_be_numpys() -> None:
    spec = {"n": {"int": [np.int64(1), np.int64(9)]}, "c": {"choice": [np.int32(2), 3]}}
    study = Study(spec, "random", seed=0, rules="n >= 3")
    for _ in range(8):
        trial = study.ask()
        assert type(trial.params["n"]) is int
        assert trial.params["n"] >= 3, "one rule may stand without its list"
        assert type(trial.params["c"]) is int
        study.tell(trial, 1.0)
