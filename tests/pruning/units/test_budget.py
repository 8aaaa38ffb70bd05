"""Budgets of units: one that is met takes nothing, one that is measured says how well, all are named as written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelopt_cli import load, prune, shrink
from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.latency import Latency
from modelopt_cli.pruning.units import budget as unit_budget

Clock = Callable[..., list[Latency]]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)).eval()


def inputs() -> Tensor:
    return torch.randn(32, 8, generator=torch.Generator().manual_seed(1))


def clock(overhead: float, jitter: float) -> Clock:
    """Times of `overhead` and a microsecond for each ten weights, each turn up to `jitter` longer."""
    seeds = count()

    def measured(contenders: Mapping[str, nn.Module], _: Tensor, sizes: Any, **__: Any) -> list[Latency]:
        latencies = []
        for name, module in contenders.items():
            random = np.random.default_rng(next(seeds))
            weights = sum(each.numel() for each in module.parameters())
            times = (overhead + 1e-4 * weights) * (1.0 + jitter * random.uniform(size=200))
            latencies.append(Latency(name, sizes[0], 1, "cpu", tuple(times)))
        return latencies

    return measured


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_budget, "latency", clock(0.1, 0.05))


def weights(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("form", ["module", "graph"])
@pytest.mark.parametrize(
    ("budget", "named"),
    [
        ({"flops": 10**9}, "flops is 1000000000, which the model meets as it is"),
        ({"parameters": "100%"}, r"parameters is 100% \(4,996\)"),
        ({"size_bytes": 10**9}, "size_bytes is 1000000000 bytes, which"),
        ({"size_bytes": "100%"}, r"size_bytes is 100% \(19,984 bytes\)"),
        ({"latency_ms": 1000}, r"latency_ms is 1000 ms, which the model meets as it is \(.* measured to ± "),
        ({"latency_ms": "100%"}, r"latency_ms is 100% \("),
    ],
)
def test_a_budget_that_is_met_takes_nothing(budget: dict[str, Any], named: str, form: str) -> None:
    module = network()
    shrunk = shrink(
        module, inputs(), {"budget": budget, "importance": "l2", "structure": {"type": "neurons", "apply": form}}
    )
    assert [type(each) for each in shrunk.module.modules()] == [type(each) for each in module.modules()]
    for own, left in zip(module.parameters(), shrunk.module.parameters(), strict=True):
        assert torch.equal(own, left)
    (warning,) = shrunk.warnings
    assert not any(row[3] for row in shrunk.groups.rows)
    assert re.search(named, warning), warning


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("schedule", ["one_shot", {"type": "rounds", "rounds": 2}])
def test_a_run_whose_budget_is_met_reports_the_model_it_had(schedule: Any) -> None:
    pruning = {"structure": "neurons", "importance": "l2", "schedule": schedule, "recovery": {"epochs": 1}}
    report = prune(
        load(
            {
                "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
                "model": {"type": "mlp", "hidden": [8]},
                "training": {"epochs": 1},
                "pruning": {**pruning, "budget": {"latency_ms": 5}},
            }
        )
    )
    assert report.metrics["pruning.units_removed"] == 0.0
    assert any("latency_ms is 5 ms, which the model meets as it is" in each for each in report.warnings)


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("budget", ["70%", 0.45])
def test_a_measured_budget_is_met_and_the_same_when_asked_again(budget: Any) -> None:
    """Within what measuring is off by, which is told; what was asked is named as it was written."""
    dense = 0.1 + 1e-4 * weights(network())
    limit = 0.7 * dense if budget == "70%" else budget
    left = []
    for _ in range(3):
        shrunk = shrink(network(), inputs(), {"budget": {"latency_ms": budget}, "importance": "l2"})
        left.append(0.1 + 1e-4 * weights(shrunk.module))
        (warning,) = shrunk.warnings
        assert f"latency_ms is {budget}" in warning
        assert "measured to ± " in warning
        assert "asked again" in warning
    assert all(0.93 * limit <= each <= 1.03 * limit for each in left), (left, limit)


@pytest.mark.parametrize(
    ("overhead", "budget", "message"),
    [
        (
            100.0,
            "50%",
            r"latency_ms is 50% \(50\.\d* ms\), but a batch of 1 takes 1\d\d ms, .* drowns in noise; use a ",
        ),
        (100.0, 60, "latency_ms is 60 ms, but .*larger latency_batch, or measure again when"),
        (0.1, "5%", r"latency_ms is 5% \(0\.0\d* ms\), but 0\.\d* are left when all that may go is gone"),
        (0.1, 0.01, r"latency_ms is 0\.01 ms, but 0\.\d* are left when all that may go is gone"),
    ],
)
def test_what_no_pruning_makes_as_quick_is_refused(
    overhead: float, budget: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small nets, whose time is overhead, and budgets below what is left in the end."""
    monkeypatch.setattr(unit_budget, "latency", clock(overhead, 0.05))
    with pytest.raises(UsageError, match=message):
        shrink(network(), inputs(), {"budget": {"latency_ms": budget}, "importance": "l2"})


def test_least_times_tell_how_far_off_they_are() -> None:
    random = np.random.default_rng(0)
    one, other = (
        Latency(name, 1, 1, "cpu", tuple(base * (1.0 + random.exponential(0.5, size=400))))
        for name, base in (("one", 1.0), ("other", 2.0))
    )
    ratio, off = one.least_of(other)
    assert ratio == pytest.approx(0.5, abs=0.01)
    assert 0.01 <= off < 0.03
    few = Latency("few", 1, 1, "cpu", (1.0, 1.5, 3.0))
    assert few.least_of(Latency("few", 1, 1, "cpu", (1.0, 1.0, 1.0)))[1] > 0.1
