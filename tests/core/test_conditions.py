"""Goals and conditions say again what they read, and judge as Python's own operators do."""

from __future__ import annotations

import math
import operator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.core.conditions import Condition, Goal

METRICS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+){0,2}", fullmatch=True)
BOUNDS = st.floats(allow_nan=False, allow_infinity=False)
OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}
SPACES = st.sampled_from(["", " ", "  \t"])


@settings(max_examples=40)
@given(METRICS, st.sampled_from(list(OPERATORS)), BOUNDS, SPACES)
def test_a_condition_is_read_however_it_is_spaced(metric: str, sign: str, bound: float, space: str) -> None:
    text = f"{space}{metric}{space}{sign}{space}{bound!r}{space}"
    assert Condition.parse(text) == Condition(metric, sign, bound)


@settings(max_examples=40)
@given(METRICS, st.sampled_from(list(OPERATORS)), st.integers(-999_999, 999_999))
def test_a_condition_reads_what_it_says(metric: str, sign: str, bound: int) -> None:
    """(`str` gives six significant digits.)"""
    condition = Condition(metric, sign, float(bound))
    assert Condition.parse(str(condition)) == condition


@pytest.mark.parametrize(
    ("text", "bound"),
    [("a < 100_000", 1e5), ("a < 1e-3", 1e-3), ("a < 50%", 0.5), ("a < .5", 0.5), ("a < -2.5E+3", -2500.0)],
)
def test_numbers_as_people_write_them(text: str, bound: float) -> None:
    assert Condition.parse(text).bound == bound


@pytest.mark.parametrize(
    "text",
    ["", "accuracy", "accuracy >= ", ">= 1", "accuracy => 1", "accuracy >= one", "a b >= 1", "a >= 1 2", "1a < 2"],
)
def test_what_is_no_condition_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no condition; write e\.g\. 'test\.accuracy >= 0\.95'"):
        Condition.parse(text)


@given(st.sampled_from(list(OPERATORS)), BOUNDS, BOUNDS)
def test_met_violation_and_margin_agree(sign: str, bound: float, value: float) -> None:
    condition, metrics = Condition("a", sign, bound), {"a": value}
    met = OPERATORS[sign](value, bound)
    assert condition.met(metrics) is met
    assert (condition.violation(metrics) == 0.0) is met
    margin = condition.margin(metrics)
    assert margin is not None
    if sign != "==":
        assert margin > 0 or not met or value == bound
        assert margin < 0 or met or value == bound
    if not met and value != bound:
        assert condition.violation(metrics) == abs(value - bound)


@pytest.mark.parametrize("metrics", [{}, {"a": math.nan}])
@pytest.mark.parametrize("sign", OPERATORS)
def test_a_metric_that_is_missing_meets_nothing(sign: str, metrics: dict[str, float]) -> None:
    condition = Condition("a", sign, 0.0)
    assert not condition.met(metrics)
    assert condition.violation(metrics) == math.inf
    assert condition.margin(metrics) is None


def test_a_bound_that_is_just_missed_is_a_violation() -> None:
    assert Condition("a", "<", 1.0).violation({"a": 1.0}) > 0


@given(METRICS, st.booleans())
def test_a_goal_reads_what_it_says(metric: str, maximize: bool) -> None:
    goal = Goal(metric, maximize)
    assert Goal.parse(str(goal)) == goal


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_loss_is_what_is_minimized(value: float) -> None:
    assert Goal("a", maximize=False).loss({"a": value}) == value
    assert Goal("a", maximize=True).loss({"a": value}) == -value


@pytest.mark.parametrize("metrics", [{}, {"a": math.nan}, {"a": math.inf}, {"a": -math.inf}])
def test_a_metric_without_a_finite_value_has_no_loss(metrics: dict[str, float]) -> None:
    assert Goal("a", maximize=True).loss(metrics) is None


@pytest.mark.parametrize("text", ["", "accuracy", "maximise accuracy", "maximize", "maximize a b", "minimize 1a"])
def test_what_is_no_goal_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(ValueError, match="is no objective; write 'maximize METRIC' or 'minimize METRIC'"):
        Goal.parse(text)
