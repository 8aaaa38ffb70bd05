"""What the tests of samplers share: samplers by name, spaces, and histories of every kind of trial."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from modelopt_cli.core.seeds import derive
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.tuning.samplers import Sampler
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import Params, Point, State, Trial

_EXTRAS = {"cmaes": "cmaes", "optuna": "optuna"}
"""Sampler -> the optional package that it needs."""


def _param(name: str) -> Any:
    package = _EXTRAS.get(name)
    absent = package is not None and importlib.util.find_spec(package) is None
    reason = f"the extra is missing: pip install 'modelopt-cli[{package}]'"
    return pytest.param(name, marks=pytest.mark.skipif(absent, reason=reason))


NAMES = [_param(name) for name in FAMILIES["samplers"].names()]
"""Every sampler, those whose extra is missing skipped."""

CONDITIONAL = Space.from_spec(
    {
        "lr": {"float": [1e-4, 1.0], "log": True, "count": 7},
        "opt": {
            "choice": [
                {
                    "type": "sgd",
                    "m": {"float": [0.0, 0.99], "count": 5},
                    "n": {"choice": [{"t": 1, "k": {"int": [1, 9]}}, "no"]},
                },
                {"type": "adamw", "hidden": {"int": [1, 300], "log": True, "count": 6}},
            ]
        },
        "batch": [16, 32, 64, 128],
        "act": ["relu", None, True],
        "size": {"ordinal": ["small", "medium", "large"]},
    }
)
FINITE = Space.from_spec(
    {
        "a": ["x", "y", "z"],
        "b": {"choice": [{"t": 1, "k": {"int": [0, 3]}}, {"t": 2}]},
        "c": {"float": [0, 1], "step": 0.5},
    }
)
SMOOTH = Space.from_spec({"x": {"float": [-2, 2]}, "y": {"float": [1e-4, 1.0], "log": True}, "k": {"int": [1, 20]}})
PLAIN = (bool, int, float, str, dict, list, type(None))


def smooth(params: Params) -> float:
    return float((params["x"] - 0.7) ** 2 + (math.log10(params["y"]) + 1.5) ** 2 / 2 + ((params["k"] - 6) / 10) ** 2)


def build(name: str, **options: Any) -> Sampler:
    sampler = FAMILIES["samplers"].get(name)(**options)
    assert isinstance(sampler, Sampler)
    return sampler


def history(space: Space, count: int, seed: int = 0, objectives: int = 1) -> list[Trial]:
    """Random trials: completed ones, and of each other kind a few."""
    rng = np.random.default_rng(seed)
    trials = []
    for number in range(count):
        losses: tuple[float, ...] | None = tuple(float(loss) for loss in rng.standard_normal(objectives))
        state, violation = State.COMPLETED, 0.0
        curve: tuple[Point, ...] = ()
        if number % 7 == 3:
            state, losses = State.FAILED, None
        elif number % 7 == 4:
            state, losses = list(State)[number % 3], None  # queued, running, paused
        elif number % 7 == 5:
            violation = [0.5, math.inf][number % 2]
        elif number % 7 == 6:
            state, curve, losses = State.STOPPED, (Point(1, {}, losses),), None
        elif number % 11 == 10:
            losses = (math.nan,) * objectives
        seed_of_trial = derive(seed, "trial", number)
        trials.append(Trial(number, space.sample(rng), seed_of_trial, state, curve, {}, losses, violation, seconds=1.0))
    return trials


def check(space: Space, trials: Sequence[Trial], suggestions: list[Params]) -> None:
    """Settings of the space, of plain values, none of them in the history or twice."""
    keys = {space.canonical(trial.params) for trial in trials}
    for params in suggestions:
        assert space.problem(params) is None
        assert all(type(value) in PLAIN for value in params.values())
        assert set(params) == {parameter.path for parameter in space.active(params)}
        assert space.canonical(params) not in keys
        keys.add(space.canonical(params))


def search(
    sampler: Sampler, space: Space, loss: Callable[[Params], float | None], count: int, seed: int
) -> list[Trial]:
    """`count` trials, one after another; None fails."""
    trials: list[Trial] = []
    for number in range(count):
        params = sampler.suggest(space, trials, np.random.default_rng(derive(seed, "ask", number)), 1)[0]
        value = loss(params)
        state = State.FAILED if value is None else State.COMPLETED
        losses = None if value is None else (value,)
        trials.append(Trial(number, params, derive(seed, "trial", number), state, losses=losses))
    return trials


def best(trials: Sequence[Trial]) -> float:
    return min(trial.loss for trial in trials if trial.loss is not None)
