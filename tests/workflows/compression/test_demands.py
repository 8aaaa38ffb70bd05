"""What `--target` and `--max-drop` mean, and what they refuse."""

from __future__ import annotations

import math

import pytest

from modelopt_cli.core.errors import UsageError
from modelopt_cli.workflows.compression.target.demands import Demands, MaxDrop, Target


@pytest.mark.parametrize(
    ("text", "metric", "bound", "share"),
    [
        ("model.flops <= 50%", "model.flops", 0.5, True),
        ("model.latency_ms<=12.5%", "model.latency_ms", 0.125, True),
        ("model.latency_ms_64 <= 3", "model.latency_ms_64", 3.0, False),
        ("model.size_bytes <= 100_000", "model.size_bytes", 100_000.0, False),
        (" model.macs <= 1e6 ", "model.macs", 1e6, False),
    ],
)
def test_a_target_is_a_bound_or_a_share_of_the_given_model(text: str, metric: str, bound: float, share: bool) -> None:
    assert Target.parse(text) == Target(metric, bound, share)


def test_a_share_is_of_what_the_given_model_has() -> None:
    target = Target.parse("model.macs <= 50%")
    assert target.limit(200.0) == 100.0
    assert target.met(100.0, 200.0)
    assert not target.met(101.0, 200.0)
    assert str(target.gate) == "model.macs_ratio <= 0.5"
    assert str(Target.parse("model.macs <= 100").gate) == "model.macs <= 100"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model.flops <= 101%", "more than the given model has"),
        ("model.flops <= 0%", "above 0"),
        ("model.flops >= 50%", "bounds a cost from above"),
        ("model.flops 50%", "write 'model.flops <= 50%'"),
        ("model.nonzero <= 50%", "not what a model costs"),
        ("validation.accuracy <= 0.5", "not what a model costs"),
        ("model.latency <= 5", "Did you mean 'model.latency_ms'?"),
        ("half", "e.g. 'model.flops <= 50%'"),
        ("model.flops <= 1e999", "above 0"),
    ],
)
def test_other_targets_are_refused(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=r"--target") as refused:
        Target.parse(text)
    assert reason in str(refused.value)


def test_a_drop_is_in_the_metrics_own_units_and_of_a_loss_a_rise() -> None:
    accuracy, loss = MaxDrop.parse("validation.accuracy 0.01"), MaxDrop.parse("validation.loss 0.1")
    dense = {"validation.accuracy": 0.9, "validation.loss": 0.5}
    assert accuracy.drop({"validation.accuracy": 0.85}, dense) == pytest.approx(0.05)
    assert loss.drop({"validation.loss": 0.65}, dense) == pytest.approx(0.15)
    assert accuracy.allowed(accuracy.drop({"validation.accuracy": 0.89}, dense))
    assert not accuracy.allowed(accuracy.drop({"validation.accuracy": math.nan}, dense))
    assert str(accuracy.gate) == "validation.accuracy_drop <= 0.01"
    assert str(loss.gate) == "validation.loss_rise <= 0.1"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("test.accuracy 0.01", "read once, at the end"),
        ("validation.accuracy 1%", "not a percentage"),
        ("accuracy 0.01", "measured on validation"),
        ("train.accuracy 0.01", "measured on validation"),
        ("validation.accuracy", "by how much"),
        ("validation.accuracy -0.01", "by how much"),
        ("validation.accuracy 1e999", "finite"),
    ],
)
def test_other_drops_are_refused(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=r"--max-drop") as refused:
        MaxDrop.parse(text)
    assert reason in str(refused.value)


def test_what_is_smallest_goes_by_the_target_else_by_operations() -> None:
    assert Demands.parse("model.latency_ms <= 50%", ["validation.accuracy 0.01"], None).minimized == "model.latency_ms"
    assert Demands.parse(None, ["validation.accuracy 0.01"], None).minimized == "model.macs"
    assert Demands.parse(None, ["validation.accuracy 0.01"], "model.size_bytes").minimized == "model.size_bytes"
    for target, drops, minimize in (
        (None, [], None),
        ("model.macs <= 50%", [], "model.macs"),
        (None, ["validation.accuracy 0.01", "validation.accuracy 0.02"], None),
        (None, ["validation.accuracy 0.01"], "validation.loss"),
    ):
        with pytest.raises(UsageError):
            Demands.parse(target, drops, minimize)
