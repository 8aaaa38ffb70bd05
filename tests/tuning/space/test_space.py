"""The search space: specs and their errors, codes, conditions, grids, corners, what a file stands for."""

from __future__ import annotations

import itertools
import math
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modelopt_cli.core.errors import UsageError
from modelopt_cli.tuning.space.space import Choice, Float, Integer, Ordinal, Space, SpaceError
from tests.support.space_strategies import spaces

OPTIMIZER = {
    "training.optimizer": {
        "choice": [
            {"type": "sgd", "momentum": {"float": [0.0, 0.99]}},
            {"type": "adamw", "weight_decay": {"float": [1e-6, 1e-1], "log": True}, "betas": [0.9, 0.999]},
        ]
    }
}
NESTED = {
    "a": {"int": [0, 2]},
    "s": {
        "choice": [
            {"type": "x", "deep": {"choice": [{"type": "u", "k": {"int": [1, 2]}}, "off"]}},
            {"type": "y", "k": {"ordinal": ["low", "mid", "high"]}, "sub": {"list": [{"int": [5, 6]}, 7]}},
            None,
        ]
    },
    "b": [True, 1, 1.0],
}


def close(space: Space, a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Equal, floats without step within what `Float` promises."""
    for parameter in space.active(a):
        x, y = a[parameter.path], b[parameter.path]
        if isinstance(parameter, Float) and math.isinf(parameter.size):
            tolerance = 1e-12 * x if parameter.log else 4e-16 * max(abs(parameter.low), abs(parameter.high))
            if abs(x - y) > tolerance:
                return False
        elif x != y or type(x) is not type(y):
            return False
    return a.keys() == b.keys()


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(spaces(), st.integers(0, 2**32))
def test_codes_come_back_and_samples_belong(space: Space, seed: int) -> None:
    params = space.sample(np.random.default_rng(seed))
    assert space.contains(params), space.problem(params)
    u = space.encode(params)
    assert u.shape == (space.dim,)
    assert np.all((u[~np.isnan(u)] >= 0) & (u[~np.isnan(u)] <= 1))
    again = space.decode(u)
    assert close(space, params, again)
    assert np.allclose(space.encode(again), u, atol=1e-12, equal_nan=True)
    active = {parameter.path for parameter in space.active(params)}
    assert active == set(params)
    assert int((~np.isnan(u)).sum()) == len(active)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(spaces(), st.integers(0, 2**32))
def test_bounds_decode_exactly(space: Space, seed: int) -> None:
    for corner in (0.0, 1.0):
        params = space.decode([corner] * space.dim)
        assert space.contains(params)
        assert close(space, params, space.decode(space.encode(params)))


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(spaces())
def test_size_is_the_number_of_settings_and_keys_tell_them_apart(space: Space) -> None:
    assume(space.size <= 3000)
    points = list(space.every())
    assert len(points) == space.size == len({space.canonical(point) for point in points})
    assert all(space.contains(point) for point in points)
    assert [space.grid_point(index) for index in range(len(points))] == points
    assert [*space.grid()] == points  # no `count` in these specs
    assert space.grid_size == space.size


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(spaces())
def test_spec_round_trip_and_pickle(space: Space) -> None:
    assert Space.from_spec(space.to_spec()) == space
    again = pickle.loads(pickle.dumps(space))
    assert again == space
    assert hash(again) == hash(space)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(spaces())
def test_corners_cover_every_branch_and_bound_once(space: Space) -> None:
    corners = list(space.corners())
    assert all(space.contains(corner) for corner in corners)
    seen = {(position, repr(corner[space.parameters[position].path])) for corner in corners
            for position in space.positions(corner)}  # fmt: skip
    wanted = {(position, repr(value)) for position, own in enumerate(space.parameters) for value in own.ends}
    assert seen >= wanted
    assert len(corners) <= sum(len(own.ends) for own in space.parameters)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(spaces(), st.integers(0, 2**32))
def test_a_file_stands_for_its_setting(space: Space, seed: int) -> None:
    params = space.sample(np.random.default_rng(seed))
    assert space.from_values(params.__getitem__) == params
    assert space.complete(params, dict[str, Any]().__getitem__) == params


# Values by hand


def test_conditions_and_their_rows() -> None:
    space = Space.from_spec(NESTED)
    assert [parameter.path for parameter in space.parameters] == [
        "a",
        "s",
        "s.deep",
        "s.deep.k",
        "s.k",
        "s.sub.list.0",
        "b",
    ]
    assert space.parameters[3].condition == ("s.deep", 0)
    assert space.size == 3 * ((2 + 1) + 3 * 2 + 1) * 3
    params = {"a": 1, "s": {"type": "y", "sub": {"list": [5, 7]}}, "s.k": "mid", "s.sub.list.0": 6, "b": True}
    assert space.contains(params)
    assert np.isnan(space.encode(params)).tolist() == [False, False, True, True, False, False, False]
    assert not space.contains({**params, "s.deep": "off"})
    assert "s.deep" in str(space.problem({**params, "s.deep": "off"}))
    assert (
        space.problem({key: value for key, value in params.items() if key != "s.k"}) == "s.k has no value; give it one"
    )
    rows = {row["path"]: row for row in space.describe()}
    assert rows["s.k"] == {"path": "s.k", "kind": "ordinal", "range": "low | mid | high", "when": "s = y"}
    assert rows["s.deep.k"]["when"] == "s.deep = u"
    assert rows["a"]["range"] == "0 to 2"


def test_branches_may_share_a_path_and_are_told_apart() -> None:
    spec = {"o": {"choice": [{"type": "a", "m": {"float": [0, 1]}}, {"type": "b", "m": {"int": [5, 9]}}]}}
    space = Space.from_spec(spec)
    assert space.paths == ("o", "o.m")
    assert space.contains({"o": {"type": "b"}, "o.m": 7})
    assert not space.contains({"o": {"type": "a"}, "o.m": 7})


def test_equal_values_of_other_types_are_other_settings() -> None:
    space = Space.from_spec({"b": [True, 1, 1.0, "1"]})
    assert len({space.canonical({"b": value}) for value in (True, 1, 1.0, "1")}) == 4
    assert [space.decode(space.encode({"b": value}))["b"] for value in (True, 1, 1.0)] == [True, 1, 1.0]
    floats = Space.from_spec({"lr": {"float": [-1, 1]}})
    assert floats.canonical({"lr": 1}) == floats.canonical({"lr": 1.0})
    assert floats.canonical({"lr": 0.0}) == floats.canonical({"lr": -0.0})
    assert floats.canonical({"lr": 0.1}) != floats.canonical({"lr": 0.1 + 2e-17})


def test_values_are_plain_and_never_shared() -> None:
    space = Space.from_spec(
        {"x": {"float": [np.float64(0), 1]}, "n": {"int": [np.int64(1), 3]}, "l": [[64], [128, 64]]}
    )
    params = space.sample(np.random.default_rng(0))
    assert {type(value) for value in params.values()} == {float, int, list}
    params["l"].append(1)
    assert space.parameters[2].ends == ([64], [128, 64])


def test_each_integer_has_a_fair_share() -> None:
    """Bounds lie 4.9 standard errors out or more: of other seeds about 2 in a million would fail."""
    rng = np.random.default_rng(0)
    space = Space.from_spec({"n": {"int": [1, 4]}, "c": ["a", "b", "c"]})
    draws = [space.sample(rng) for _ in range(6000)]
    counts = np.bincount([draw["n"] for draw in draws], minlength=5)[1:]
    assert np.all(np.abs(counts / 6000 - 0.25) < 0.03)
    assert abs(sum(draw["c"] == "a" for draw in draws) / 6000 - 1 / 3) < 0.03
    log = Space.from_spec({"n": {"int": [1, 1000], "log": True}})
    values = np.array([log.sample(rng)["n"] for _ in range(4000)])
    expected = math.log(31.5 / 0.5) / math.log(1000.5 / 0.5)  # the share of 1 .. 31 on the log axis
    assert abs(np.mean(values <= 31) - expected) < 0.04


def test_steps_are_decimal_and_need_not_meet_the_upper_bound() -> None:
    space = Space.from_spec({"d": {"float": [0.0, 0.55], "step": 0.1}, "n": {"int": [1, 10], "step": 4}})
    assert [*space.parameters[0].grid()] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert [*space.parameters[1].grid()] == [1, 5, 9]
    assert space.parameters[1].ends == (1, 9)
    assert space.size == 18
    assert not space.contains({"d": 0.15, "n": 5})
    assert space.from_values({"d": 0.1 * 3, "n": 9}.__getitem__) == {"d": 0.3, "n": 9}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"float": [1e-4, 1.0], "log": True, "count": 5}, [1e-4, 1e-3, 1e-2, 0.1, 1.0]),
        ({"float": [0, 1], "count": 11}, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        ({"float": [0, 1], "count": 1}, [0.5]),
        ({"float": [2, 2]}, [2.0]),
        ({"int": [1, 100], "count": 3}, [1, 51, 100]),
        ({"int": [1, 1000], "log": True, "count": 4}, [1, 10, 100, 1000]),
        ({"int": [1, 3], "count": 9}, [1, 2, 3]),
        ({"float": [0, 1], "step": 0.25, "count": 3}, [0.0, 0.5, 1.0]),
    ],
)
def test_points_of_a_grid(spec: dict[str, Any], expected: list[float]) -> None:
    space = Space.from_spec({"x": spec})
    assert [point["x"] for point in space.grid()] == expected
    assert space.grid_size == len(expected)


def test_grid_is_in_the_files_order_last_fastest_and_lazy() -> None:
    space = Space.from_spec({"b": [1, 2], "a": {"ordinal": ["x", "y"]}, "n": {"int": [0, 10**9]}})
    first = list(itertools.islice(space.grid(), 2))
    assert first == [{"b": 1, "a": "x", "n": 0}, {"b": 1, "a": "x", "n": 1}]
    with pytest.raises(SpaceError, match="step or a count") as caught:
        Space.from_spec(OPTIMIZER).grid()
    assert caught.value.where == ("training.optimizer", "choice", 0, "momentum", "float")


def test_grid_agrees_with_scikit_learn() -> None:
    from sklearn.model_selection import ParameterGrid

    spec = {"max_depth": [None, 10], "min_samples_split": [2, 5, 10], "n_estimators": [10, 50]}
    assert list(Space.from_spec(spec).grid()) == list(ParameterGrid(spec))


# Files


def test_a_section_stands_for_the_branch_whose_fixed_keys_it_holds() -> None:
    space = Space.from_spec(OPTIMIZER)
    sgd = {
        "training.optimizer": {"type": "sgd", "momentum": 0.9, "nesterov": False},
        "training.optimizer.momentum": 0.9,
    }
    expected = {"training.optimizer": {"type": "sgd"}, "training.optimizer.momentum": 0.9}
    assert space.from_values(sgd.__getitem__) == expected
    adam = {"training.optimizer": {"type": "adamw", "betas": [0.8, 0.999]}, "training.optimizer.weight_decay": 1e-3}
    assert space.from_values(adam.__getitem__) is None  # another fixed value
    assert space.from_values({**sgd, "training.optimizer.momentum": 1.5}.__getitem__) is None
    assert space.from_values(dict[str, Any]().__getitem__) is None


def test_the_most_specific_branch_wins() -> None:
    space = Space.from_spec({"o": {"choice": [{"type": "sgd"}, {"type": "sgd", "nesterov": True}]}})
    assert space.from_values({"o": {"type": "sgd", "nesterov": True}}.__getitem__) == {
        "o": {"type": "sgd", "nesterov": True}
    }
    assert space.from_values({"o": {"type": "sgd", "nesterov": False}}.__getitem__) == {"o": {"type": "sgd"}}


def test_a_path_searched_on_its_own_is_left_out_of_the_match() -> None:
    space = Space.from_spec({"o": {"choice": [{"type": "sgd", "lr": 0.1}, "none"]}, "o.lr": {"float": [0, 1]}})
    file = {"o": {"type": "sgd", "lr": 0.5}, "o.lr": 0.5}
    assert space.from_values(file.__getitem__) == {"o": {"type": "sgd", "lr": 0.1}, "o.lr": 0.5}


def test_numbers_of_a_file_become_the_spaces_own() -> None:
    space = Space.from_spec({"x": {"float": [0, 2]}, "n": {"int": [0, 40]}, "c": [16, 32]})
    params = space.from_values({"x": 1, "n": 30.0, "c": 32.0}.__getitem__)
    assert params == {"x": 1.0, "n": 30, "c": 32}
    assert params is not None
    assert [type(value) for value in params.values()] == [float, int, int]
    assert space.from_values({"x": True, "n": 30, "c": 32}.__getitem__) is None


def test_complete_takes_what_is_given_then_the_file_then_the_middle() -> None:
    space = Space.from_spec({**OPTIMIZER, "lr": {"float": [0.0, 1.0]}})
    file = {"lr": 0.25, "training.optimizer": {"type": "sgd"}, "training.optimizer.momentum": 5.0}
    assert space.complete({"lr": 1}, file.__getitem__) == {
        "training.optimizer": {"type": "sgd"}, "training.optimizer.momentum": 0.495, "lr": 1.0,
    }  # fmt: skip
    section = {"training.optimizer": {"type": "sgd", "momentum": 0.5}}
    assert space.complete(section, file.__getitem__)["training.optimizer.momentum"] == 0.5
    with pytest.raises(SpaceError, match="lr: 7 is no number in"):
        space.complete({"lr": 7}, file.__getitem__)
    with pytest.raises(SpaceError, match="not searched in this setting"):
        space.complete({"training.optimizer.weight_decay": 0.01}, file.__getitem__)
    with pytest.raises(SpaceError, match="Did you mean 'lr'"):
        space.complete({"l": 0.1}, file.__getitem__)


# Errors

NO = float("nan")


@pytest.mark.parametrize(
    ("spec", "where", "text"),
    [
        ({}, (), "empty"),
        ([], (), "no search space"),
        ({"": [1]}, ("",), "dotted path"),
        ({"a..b": [1]}, ("a..b",), "dotted path"),
        ({"a": []}, ("a",), "list at least one"),
        ({"a": {"choice": []}}, ("a", "choice"), "list at least one"),
        ({"a": {"choice": "sgd"}}, ("a", "choice"), "list of values"),
        ({"a": {"ordinal": []}}, ("a", "ordinal"), "list at least one"),
        ({"a": {"ordinal": ["x", "x"]}}, ("a", "ordinal", 1), "stands twice"),
        ({"a": [1, 2, 1]}, ("a", 2), "stands twice: 1 \\(numbers 1 and 3\\)"),
        ({"a": [0.0, -0.0]}, ("a", 1), "stands twice"),
        ({"a": 3}, ("a",), "nothing to search"),
        ({"a": {}}, ("a",), "names no kind"),
        ({"a": [{"type": "sgd"}]}, ("a", 0), "write {choice"),
        ({"a": {"flaot": [0, 1]}}, ("a", "flaot"), "Did you mean 'float'"),
        ({"a": {"float": [0, 1], "lgo": True}}, ("a", "lgo"), "Did you mean 'log'"),
        ({"a": {"choice": [1], "log": True}}, ("a", "log"), "unknown key"),
        ({"a": {"float": [0, 1], "int": [0, 1]}}, ("a", "int"), "exclude each other"),
        ({"a": {"float": [1]}}, ("a", "float"), "two numbers"),
        ({"a": {"float": 1}}, ("a", "float"), "two numbers"),
        ({"a": {"float": [1, 0]}}, ("a", "float"), "low 1.0 is above high 0.0; write"),
        ({"a": {"float": ["0", 1]}}, ("a", "float", 0), "no number"),
        ({"a": {"float": [0, True]}}, ("a", "float", 1), "no number"),
        ({"a": {"float": [0, math.inf]}}, ("a", "float", 1), "finite"),
        ({"a": {"float": [NO, 1]}}, ("a", "float", 0), "finite"),
        ({"a": {"float": [-1e308, 1e308]}}, ("a", "float"), "too wide"),
        ({"a": {"float": [0, 1], "log": True}}, ("a", "float", 0), "low > 0"),
        ({"a": {"int": [0, 9], "log": True}}, ("a", "int", 0), "low > 0"),
        ({"a": {"float": [0, 1], "log": 1}}, ("a", "log"), "true or false"),
        ({"a": {"float": [1, 2], "log": True, "step": 0.1}}, ("a", "step"), "log and step"),
        ({"a": {"float": [1, 2], "step": 0}}, ("a", "step"), "above 0"),
        ({"a": {"int": [1, 2], "step": -1}}, ("a", "step"), "above 0"),
        ({"a": {"int": [1, 2], "step": 0.5}}, ("a", "step"), "whole number"),
        ({"a": {"int": [1, 2.5]}}, ("a", "int", 1), "whole number"),
        ({"a": {"int": [1, 2**64]}}, ("a", "int", 1), "beyond"),
        ({"a": {"int": [1, 2], "count": 0}}, ("a", "count"), "at least 1"),
        ({"a": {"int": [1, 2], "count": 1.5}}, ("a", "count"), "at least 1"),
        ({"a": [object()]}, ("a", 0), "plain value"),
        ({"a": {"choice": [{1: 2}]}}, ("a", "choice", 0), "no text"),
        ({"a": {"choice": [{"p.q": {"int": [1, 2]}}]}}, ("a", "choice", 0, "p.q"), "holds a dot"),
        (
            {"a": {"choice": [{"t": 1, "m": {"float": [2, 1]}}]}},
            ("a", "choice", 0, "m", "float"),
            "low 2.0 is above high 1.0",
        ),
        (
            {"a": {"choice": [{"t": 1, "d": {"e": [{"int": ["x", 1]}]}}]}},
            ("a", "choice", 0, "d", "e", 0, "int", 0),
            "no number",
        ),
        (
            {"a": {"choice": [{"t": 1, "m": {"int": [1, 2]}}, {"t": 1}]}},
            ("a", "choice", 1),
            "same fixed part",
        ),
        ({"a": {"choice": [{"m": {"int": [1, 2]}}]}, "a.m": [1, 2]}, ("a.m",), "searched twice"),
        ({"a.m": [1, 2], "a": {"choice": [{"m": {"int": [1, 2]}}]}}, ("a", "choice", 0, "m"), "searched twice"),
    ],
)
def test_errors_give_place_rule_and_remedy(spec: Any, where: tuple[str | int, ...], text: str) -> None:
    with pytest.raises(SpaceError, match=text) as caught:
        Space.from_spec(spec)
    assert caught.value.where == where
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, UsageError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.where) == (str(caught.value), where)


def test_single_values_are_allowed() -> None:
    space = Space.from_spec({"a": ["only"], "b": {"float": [3, 3]}, "c": {"int": [3, 3], "log": True}})
    assert space.size == 1
    assert list(space.grid()) == [{"a": "only", "b": 3.0, "c": 3}]
    assert [type(parameter) for parameter in space.parameters] == [Choice, Float, Integer]
    assert isinstance(Space.from_spec({"o": {"ordinal": [1]}}).parameters[0], Ordinal)


def test_no_heavy_import() -> None:
    code = (
        "import sys; from modelopt_cli.tuning.space.space import Space; "
        "list(Space.from_spec({'a': [1, 2], 'b': {'float': [0, 1]}}).corners()); "
        "sys.exit(any(m in sys.modules for m in ('numpy', 'torch', 'scipy', 'sklearn', 'pydantic')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_strategy_of_the_file_is_the_choice_that_names_it() -> None:
    """A file is resolved to sections, while choices often name a strategy alone."""
    space = Space.from_spec({"pruning.importance": ["taylor", "magnitude"], "other": {"choice": [{"type": "random"}]}})
    values = {"pruning.importance": {"type": "magnitude"}, "other": {"type": "random"}}
    assert space.from_values(values.__getitem__) == {"pruning.importance": "magnitude", "other": {"type": "random"}}
    assert space.from_values({**values, "other": {"type": "fisher"}}.__getitem__) is None
