"""What a copy's settings may be: within the space, its parent's where nothing may change, and the factors.

(A private module: a search shows only a few of the copies that it may make.)
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.tuning.schedulers._exploration import changing, explored, multiplied
from modelopt_cli.tuning.space.parameters import Float, Integer
from modelopt_cli.tuning.space.space import Space
from tests.support.space_strategies import spaces

SPACE = Space.from_spec(
    {
        "training.lr": {"float": [1e-4, 1.0], "log": True},
        "training.size": [64, 16, 32],
        "training.level": {"ordinal": ["low", "middle", "high"]},
        "training.epochs": {"int": [5, 50]},
        "training.optimizer": {
            "choice": [{"type": "sgd", "momentum": {"float": [0.0, 0.99]}}, {"type": "adam", "eps": {"float": [0, 1]}}]
        },
        "model.width": {"int": [16, 256], "log": True},
        "data.augment.0.degrees": {"float": [0, 30]},
        "data.size": {"float": [0, 1]},
        "training.nesterov": [True, False],
    }
)


def test_by_default_what_no_state_depends_on_may_change() -> None:
    paths = {SPACE.parameters[position].path for position in changing(SPACE, None)}
    assert paths == {
        "training.lr", "training.size", "training.level", "training.optimizer.momentum", "training.optimizer.eps",
        "data.augment.0.degrees",
    }  # fmt: skip
    named = changing(SPACE, ("model", "training.epochs", "training.optimizer"))
    assert {SPACE.parameters[position].path for position in named} == {
        "model.width", "training.epochs", "training.optimizer.momentum", "training.optimizer.eps",
    }  # fmt: skip


@pytest.mark.slow
@given(spaces(), st.integers(0, 2**32), st.floats(0, 1))
def test_a_copy_is_a_setting_of_the_space_with_the_same_choices(space: Space, seed: int, resample: float) -> None:
    rng = np.random.default_rng(seed)
    params = space.sample(rng)
    positions = changing(space, [path.partition(".")[0] for path in space.paths])
    copy = explored(space, params, positions, (0.8, 1.2), resample, rng)
    assert space.problem(copy) is None
    assert list(copy) == list(params)
    for position in set(space.positions(params)) - positions:
        path = space.parameters[position].path
        assert copy[path] == params[path]


def test_factors_neighbours_and_new_values_come_as_often_as_they_should() -> None:
    """Bounds lie 3.5 standard errors out or more: of other seeds about 2 in a thousand would fail."""
    rng = np.random.default_rng(0)
    params = SPACE.sample(rng) | {"training.lr": 0.01, "training.size": 32, "training.level": "low"}
    positions = changing(SPACE, None)
    copies = [explored(SPACE, params, positions, (0.8, 1.2), 0.25, rng) for _ in range(2000)]
    rates = np.array([each["training.lr"] for each in copies])
    for factor in (0.8, 1.2):
        assert np.mean(np.isclose(rates, factor * 0.01)) == pytest.approx(0.375, abs=0.04)
    new = rates[~np.isclose(rates, 0.008) & ~np.isclose(rates, 0.012)]
    assert len(new) == pytest.approx(500, abs=70)
    assert np.mean(np.log10(new)) == pytest.approx(-2, abs=0.2), "drawn from the logarithmic range"
    sizes = [each["training.size"] for each in copies]
    assert sizes.count(16) == pytest.approx(sizes.count(64), abs=150)
    assert sizes.count(32) == pytest.approx(2000 / 12, abs=50), "drawn anew alone"
    levels = [each["training.level"] for each in copies]
    assert levels.count("middle") > levels.count("high") > 0, "the first has one neighbour"
    assert {each["training.epochs"] for each in copies} == {params["training.epochs"]}


@pytest.mark.parametrize(
    ("parameter", "value", "factor", "expected"),
    [
        (Float("x", 0.0, 1.0), 0.5, 1.2, 0.6),
        (Float("x", 0.0, 1.0), 0.9, 1.2, 1.0),
        (Float("x", 0.4, 1.0), 0.45, 0.8, 0.4),
        (Float("x", -2.0, 1.0), -1.0, 1.2, -1.2),
        (Float("x", 0.0, 1.0), 0.0, 1.2, 0.0),
        (Float("x", 0.0, 1.0, step=0.25), 0.5, 1.2, 0.75),
        (Float("x", 0.0, 1.0, step=0.1, count=2), 0.5, 0.8, 0.4),
        (Integer("x", 1, 100), 50, 1.2, 60),
        (Integer("x", 1, 100), 2, 1.2, 3),
        (Integer("x", 1, 100), 2, 0.8, 1),
        (Integer("x", 1, 100), 1, 0.8, 1),
        (Integer("x", 8, 128, log=True), 100, 1.3, 128),
        (Integer("x", 10, 100, step=10), 20, 1.2, 30),
        (Integer("x", 10, 100, step=10), 100, 1.2, 100),
    ],
)
def test_numbers_are_multiplied_within_their_range_and_on_their_lattice(
    parameter: Float | Integer, value: float, factor: float, expected: float
) -> None:
    multiple = multiplied(parameter, value, factor)
    assert multiple == pytest.approx(expected)
    assert parameter.contains(multiple)
