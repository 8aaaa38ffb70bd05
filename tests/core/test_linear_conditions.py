"""Conditions between runs: read as arithmetic reads them, judged as Python's operators do, but for rounding."""

from __future__ import annotations

import math
import operator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.core.conditions import Condition
from modelopt_cli.core.linear_conditions import LinearCondition

OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}
METRICS = {"A.x": 0.955, "B.x": 0.95, "A.size": 1000.0, "B.size": 400.0}
SMALL = st.integers(-50, 50)


@settings(max_examples=60)
@given(st.sampled_from(list(OPERATORS)), SMALL, SMALL, SMALL, SMALL, SMALL)
def test_it_is_judged_as_python_judges_the_same_expression(
    sign: str, factor: int, added: int, other: int, a: int, b: int
) -> None:
    """(Whole numbers, so that Python's arithmetic is exact.)"""
    text = f"{factor} * B.x + {added} {sign} A.x * {other} - 3 + A.x"
    metrics = {"A.x": float(a), "B.x": float(b)}
    left, right = factor * b + added, a * other - 3 + a
    condition = LinearCondition.parse(text)
    assert condition.met(metrics) is OPERATORS[sign](left, right)
    assert condition.value(metrics) == left
    assert condition.bound(metrics) == right
    margin = condition.margin(metrics)
    assert margin is not None
    assert abs(margin) == abs(left - right)
    assert (margin > 0 or (margin == 0 and sign in ("<=", ">=", "=="))) is condition.met(metrics)


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("B.x >= A.x - 0.005", True),  # exactly so; 0.955 - 0.005 is 0.9500000000000001 only for a computer
        ("B.x > A.x - 0.005", False),
        ("B.x >= A.x - 0.004", False),
        ("B.x == A.x - .5%", True),
        ("0.95 * A.x <= B.x", True),
        ("A.x * 99% < B.x", True),
        ("B.size <= A.size / 2", True),
        ("B.size / A.size <= 0.5", None),
        ("-A.x + B.x >= -1e-2", True),
        ("A.x - B.x <= 0.004", False),
        ("B.size < 4_00", False),
        ("B.size <= 4_00", True),
        ("B.x >= 0.5", True),
        ("0.5 <= B.x", True),
    ],
)
def test_what_people_write(text: str, met: bool | None) -> None:
    if met is None:
        with pytest.raises(ValueError, match="a metric divides; multiply"):
            LinearCondition.parse(text)
    else:
        assert LinearCondition.parse(text).met(METRICS) is met


@given(st.sampled_from(list(OPERATORS)), st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_a_condition_on_one_metric_is_judged_like_a_gate_of_one_run(sign: str, bound: int, value: int) -> None:
    text, metrics = f"A.x {sign} {bound}", {"A.x": float(value)}
    between, alone = LinearCondition.parse(text), Condition.parse(text)
    assert between.met(metrics) is alone.met(metrics)
    assert between.margin(metrics) == alone.margin(metrics)


@pytest.mark.parametrize("metrics", [{}, {"B.x": 1.0}, {"A.x": math.nan, "B.x": 1.0}])
def test_a_metric_that_is_missing_meets_nothing(metrics: dict[str, float]) -> None:
    condition = LinearCondition.parse("B.x >= A.x - 100")
    assert not condition.met(metrics)
    assert condition.margin(metrics) is None
    assert condition.value(metrics) is None
    assert "A.x" in condition.lacking(metrics)


def test_a_baseline_that_diverged_is_worse_than_anything_finite() -> None:
    condition = LinearCondition.parse("B.loss <= A.loss")
    assert condition.met({"A.loss": math.inf, "B.loss": 3.0})
    assert not condition.met({"A.loss": 3.0, "B.loss": math.inf})
    assert not condition.met({"A.loss": math.inf, "B.loss": math.inf})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "at its end a number or a metric is expected"),
        ("B.x", "at its end one of <= >= < > == is expected"),
        ("B.x >=", "at its end a number or a metric is expected"),
        ("B.x => 1", r"at character 5 \(=\) one of <= >= < > == is expected"),
        ("B.x ≥ 1", r"at character 5 \(≥\) one of"),
        ("0.9 < B.x < 1", r"at character 11 \(<\) a second comparison stands; write two conditions"),
        ("B.x > 2 A.x", r"at character 9 \(A.x\) one of \+ - \* / or the end is expected"),
        ("B.x > (A.x)", r"at character 7 \(\(\) a bracket stands; multiply it out"),
        ("A.x * B.x > 1", r"at character 5 \(\*\) two metrics are multiplied"),
        ("B.x / 0 > 1", r"at character 5 \(/\) 0 divides"),
        ("B.x > 1e999", "1e999 is too large a number"),
        ("1 > 0", "names no metric of a run"),
        ("A.x > " + "1 + " * 500 + "1", r"a condition of 2,007 characters is too long \(at most 500\)"),
        ("__import__('os') > 1", "at character 11"),
    ],
)
def test_what_is_no_condition_is_refused_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        LinearCondition.parse(text)


def test_it_says_again_what_was_written() -> None:
    condition = LinearCondition.parse("  B.x  >=\tA.x - 0.005 ")
    assert str(condition) == "B.x >= A.x - 0.005"
    assert condition.names == ("B.x", "A.x")
