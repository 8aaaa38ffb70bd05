"""What every sampler promises, on every kind of space and after any history. A new file is tested at once."""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelopt_cli.core.seeds import derive
from modelopt_cli.tuning.space.space import Space, SpaceError
from modelopt_cli.tuning.study.study import Exhausted, Study
from modelopt_cli.tuning.trials.trial import Params, State, Trial
from tests.support.sampler_histories import CONDITIONAL, FINITE, NAMES, SMOOTH, build, check, history
from tests.support.space_strategies import spaces

DEEP = Space.from_spec(
    {
        "x": {"float": [-1.0, 1.0], "count": 3},
        "one": {
            "choice": [
                {
                    "type": "a",
                    "two": {
                        "choice": [
                            {"type": "b", "three": {"choice": [{"type": "c", "k": {"int": [1, 50], "log": True}}, 0]}},
                            {"type": "d", "s": {"float": [0, 1], "step": 0.25}},
                        ]
                    },
                },
                {"type": "e", "two": {"ordinal": [1, 2, 4]}},
            ]
        },
        "only": {"int": [3, 3]},
        "point": ["this"],
    }
)
"""Three conditions deep, with parameters of one value."""

FEW_POINTS = {
    "skopt": {"initial_points": 4, "points": 12},
    "bayesian": {"initial_points": 4},
    "tpe": {"initial_points": 4},
}
"""Options with which a short history is enough for a sampler's model to be asked."""


def in_full(trials: Sequence[Trial]) -> str:
    """Everything of the trials as text, so that NaN is what it was."""
    return repr([dataclasses.asdict(trial) for trial in trials])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(space=spaces(), seed=st.integers(0, 2**31), count=st.integers(0, 14), objectives=st.integers(1, 2))
def test_any_space_and_history_give_settings_of_the_space_and_the_same_again(
    name: str, space: Space, seed: int, count: int, objectives: int
) -> None:
    trials = history(space, count, seed, objectives)
    before = copy.deepcopy(trials)
    try:
        suggested = build(name, **FEW_POINTS.get(name, {})).suggest(space, trials, np.random.default_rng(seed), 2)
    except SpaceError:
        assert name == "grid", "only a grid needs finite lists"
        assert space.grid_size == math.inf
        return
    check(space, trials, suggested)
    assert in_full(trials) == in_full(before), "the history is left as it was"
    assert (
        len(suggested) == 2 or len(suggested) + len({space.canonical(trial.params) for trial in trials}) >= space.size
    )
    again = build(name, **FEW_POINTS.get(name, {})).suggest(space, before, np.random.default_rng(seed), 2)
    assert again == suggested


@pytest.mark.slow
@pytest.mark.parametrize("space", [CONDITIONAL, DEEP], ids=["conditional", "deep"])
@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 5, 30])
@pytest.mark.parametrize("name", NAMES)
def test_suggestions_are_new_and_belong_whatever_the_history(
    name: str, count: int, objectives: int, space: Space
) -> None:
    trials = history(space, count, objectives=objectives)
    suggested = build(name).suggest(space, trials, np.random.default_rng(1), 3)
    assert len(suggested) == 3
    check(space, trials, suggested)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["failed", "infeasible", "equal", "pending", "huge", "nan"])
@pytest.mark.parametrize("name", NAMES)
def test_histories_with_little_to_learn_from(name: str, kind: str) -> None:
    changes: dict[str, Callable[[int], dict[str, Any]]] = {
        "failed": lambda i: {"state": State.FAILED},
        "infeasible": lambda i: {"state": State.COMPLETED, "losses": (float(i),), "violation": 1.0 + i},
        "equal": lambda i: {"state": State.COMPLETED, "losses": (1.0,)},
        "pending": lambda i: {"state": State.RUNNING},
        "huge": lambda i: {"state": State.COMPLETED, "losses": (1e300 * (-1) ** i,)},
        "nan": lambda i: {"state": State.COMPLETED, "losses": (math.nan,)},
    }
    rng = np.random.default_rng(0)
    trials = [Trial(i, CONDITIONAL.sample(rng), i, **changes[kind](i)) for i in range(14)]
    suggested = build(name).suggest(CONDITIONAL, trials, np.random.default_rng(1), 2)
    assert len(suggested) == 2
    check(CONDITIONAL, trials, suggested)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_finite_space_is_exhausted_without_repetition(name: str) -> None:
    sampler, trials = build(name), list[Trial]()
    for number in range(100):
        rng = np.random.default_rng(derive(3, "ask", number))
        suggested = sampler.suggest(FINITE, trials, rng, 4)
        check(FINITE, trials, suggested)
        trials += [
            Trial(
                len(trials) + i, params, derive(3, len(trials) + i), State.COMPLETED, losses=(len(repr(params)) % 7.0,)
            )
            for i, params in enumerate(suggested)
        ]
        if len(suggested) < 4:
            break
    assert len(trials) == FINITE.size == 45
    assert sampler.suggest(FINITE, trials, np.random.default_rng(0), 1) == []


@pytest.mark.parametrize("name", NAMES)
def test_one_setting_is_suggested_once(name: str) -> None:
    space = Space.from_spec({"a": ["only"], "b": {"float": [2, 2]}})
    suggested = build(name).suggest(space, [], np.random.default_rng(0), 5)
    assert suggested == [{"a": "only", "b": 2.0}]


@pytest.mark.parametrize("name", NAMES)
def test_no_warning(name: str) -> None:
    trials = history(CONDITIONAL, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(name).suggest(CONDITIONAL, trials, np.random.default_rng(1), 1)


@cache
def long_history(space: Space) -> list[Trial]:
    ended = (trial for trial in history(space, 11_600) if trial.state.finished)
    trials = [replace(trial, number=number) for number, trial in enumerate(ended)]
    return [*trials, Trial(len(trials), space.sample(np.random.default_rng(9)), 0, State.RUNNING)]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_ten_thousand_trials_are_not_too_many(name: str) -> None:
    space = CONDITIONAL if name == "grid" else SMOOTH
    trials = long_history(space)
    assert len(trials) > 9_900
    check(space, trials[-2:], build(name).suggest(space, trials, np.random.default_rng(1), 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_hundreds_of_trials_under_way_are_not_too_many(name: str) -> None:
    trials = history(CONDITIONAL, 20)
    rng = np.random.default_rng(0)
    trials += [Trial(20 + i, CONDITIONAL.sample(rng), 0, State.RUNNING) for i in range(400)]
    check(CONDITIONAL, trials, build(name).suggest(CONDITIONAL, trials, np.random.default_rng(1), 1))


# In a study

TINY = Space.from_spec(
    {"b": {"choice": [{"t": 1, "k": {"int": [0, 3]}}, {"t": 2}]}, "c": {"float": [0, 1], "step": 0.5}}
)


def outcome(params: Params) -> float | Exception:
    """A value, NaN, or a failure: always the same for the same setting."""
    lot = derive(0, repr(params)) % 10
    return RuntimeError("no") if lot == 0 else math.nan if lot == 1 else lot / 10 + (params["c"] - 0.4) ** 2


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_study_tries_every_setting_of_a_finite_space_once(name: str) -> None:
    study = Study(TINY, {"type": name, **FEW_POINTS.get(name, {})})
    with suppress(Exhausted):
        while len(study.trials) < 100:
            for trial in study.ask_many(2):
                study.tell(trial, outcome(trial.params))
    assert len({TINY.canonical(trial.params) for trial in study.trials}) == len(study.trials) == TINY.size
    with pytest.raises(Exhausted):
        study.ask()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_study_that_is_killed_at_any_trial_goes_on_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    sampler = {"type": name, **FEW_POINTS.get(name, {})}
    whole = Study(TINY, sampler, seed=2)
    expected = [whole.tell(trial := whole.ask(), outcome(trial.params)).params for _ in range(9)]
    asked: list[Params] = []
    for number in range(9):
        with Study(TINY, sampler, seed=2, path=tmp_path / "study.sqlite") as study:
            assert study.ask().number == number  # its process dies here: the trial is run again
        with Study(TINY, sampler, seed=2, path=tmp_path / "study.sqlite") as study:
            trial = study.ask()
            asked.append(study.tell(trial, outcome(trial.params)).params)
    assert asked == expected
