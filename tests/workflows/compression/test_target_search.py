"""The search for a smaller model, on models that are only told of: a known drop for each share and way of doing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from modelopt_cli.workflows.compression.target.demands import Demands
from modelopt_cli.workflows.compression.target.search import Result, TargetSearch
from modelopt_cli.workflows.compression.target.settings import Axis, Recovery, Setting
from modelopt_cli.workflows.compression.target.tries import Given, Tries, Try

DENSE = {"validation.accuracy": 0.9, "validation.loss": 0.3}
COSTS = {"model.flops": 2000.0, "model.macs": 1000.0, "model.parameters": 500.0}
RECOVERED: Mapping[Recovery, float] = {"none": 3.0, "short": 1.0, "full": 0.5}
"""What the drop is of the one after a short recovery."""
WAYS = [
    Axis("recovery", (("labels", {"recovery": "labels"}),)),
    Axis("importance", (("better", {"importance": "better"}), ("worse", {"importance": "worse"}))),
]

Drop = Callable[[float, Mapping[str, Any]], float]


class Stub(Tries):
    """Tries that take no time: `drop` of a share and its setting, after a short recovery; `floor`: the least share."""

    def __init__(self, demands: Demands, drop: Drop, most: int = 20, floor: float = 0.0) -> None:
        self.given = Given(nn.Identity(), None, False, DENSE, COSTS)
        self.demands, self.all, self.quantizes, self._alone = demands, [], False, {}
        self._known_drop, self._most, self._floor, self._ends = drop, most, floor, None

    def attempt(
        self,
        what: str,
        share: float,
        setting: Setting,
        recovery: Recovery,
        *,
        if_needed: bool = False,
        final: bool = False,
    ) -> Try:
        one = Try(len(self.all) + 1, what, share, setting, recovery, final)
        if share < self._floor:
            one.problem = "nothing so small"
        else:
            one.costs = {name: share * value for name, value in COSTS.items()}
            one.beside = dict(COSTS)
            one.before = self._metrics(one, "none")
            one.after = {} if recovery == "none" else self._metrics(one, recovery)
        self.all.append(one)
        return one

    def _metrics(self, one: Try, recovery: Recovery) -> dict[str, float]:
        drop = RECOVERED[recovery] * self._known_drop(one.share, one.setting.values)
        return {"validation.accuracy": 0.9 - drop, "validation.loss": 0.3 + drop}


def linear(share: float, values: Mapping[str, Any]) -> float:
    """A drop that grows as the share shrinks; better importances have less of it."""
    return 0.1 * (1.0 - share) * {"better": 0.5, "worse": 2.0}.get(str(values.get("importance")), 1.0)


def searched(target: str | None, drops: Sequence[str], drop: Drop = linear, **options: Any) -> tuple[Result, Stub]:
    tries = Stub(Demands.parse(target, drops, None), drop, **options)
    return TargetSearch(tries, WAYS).run(), tries


def drop_of(one: Try | None) -> float:
    assert one is not None
    return DENSE["validation.accuracy"] - one.metrics["validation.accuracy"]


def test_with_a_target_alone_the_best_way_of_meeting_it_is_trained_out() -> None:
    result, tries = searched("model.flops <= 30%", [])
    assert result.chosen is not None
    assert (result.chosen.share, result.chosen.recovery) == (0.3, "full")
    assert result.chosen.setting.values["importance"] == "better"
    assert len(tries.all) == 6  # what meets it, as begun, three other ways, trained out


def test_with_a_drop_alone_the_smallest_is_found_whose_drop_is_allowed() -> None:
    result, tries = searched(None, ["validation.accuracy 0.02"])
    assert result.chosen is not None
    assert drop_of(result.chosen) <= 0.02
    # With the better importance and all epochs the drop is 0.025 x (1 - share), which 0.02 allows from 0.2 on.
    assert 0.2 <= result.chosen.share <= 0.2 * 1.25
    assert result.chosen.setting.values["importance"] == "better"
    assert len(tries.all) <= 20


@given(st.lists(st.floats(0.001, 0.06), min_size=2, max_size=2))
def test_the_more_may_be_lost_the_smaller_the_model(allowed: list[float]) -> None:
    low, high = sorted(allowed)
    (strict, _), (loose, _) = (searched(None, [f"validation.accuracy {each}"], most=60) for each in (low, high))
    if strict.chosen is not None:
        assert loose.chosen is not None
        assert loose.chosen.share <= strict.chosen.share * 1.25


def test_with_both_the_smallest_is_found_that_meets_the_target() -> None:
    result, _ = searched("model.flops <= 60%", ["validation.accuracy 0.02"])
    assert result.chosen is not None
    assert result.chosen.share <= 0.3
    assert drop_of(result.chosen) <= 0.02


def test_where_the_target_costs_too_much_both_near_ones_are_there() -> None:
    result, tries = searched("model.flops <= 5%", ["validation.accuracy 0.01"])
    assert result.chosen is None
    assert result.at_target is not None
    assert result.within_drop is not None
    assert result.at_target.ratio("model.flops") <= 0.05
    assert drop_of(result.at_target) > 0.01
    assert drop_of(result.within_drop) <= 0.01
    assert result.within_drop.ratio("model.flops") > 0.05
    assert set(result.written) == {"at_target", "within_drop"}
    assert len(tries.all) <= 20


def test_where_the_target_cannot_be_met_the_smallest_comes_nearest() -> None:
    result, _ = searched("model.flops <= 1%", [], floor=0.1)
    assert result.chosen is None
    assert result.nearest is not None
    assert 0.1 <= result.nearest.share <= 0.15
    assert result.nearest.recovery == "full"


def test_where_nothing_smaller_is_allowed_what_drops_least_is_nearest() -> None:
    result, _ = searched(None, ["validation.accuracy 0.0001"], lambda share, _: 0.2)
    assert result.chosen is None
    assert result.nearest is not None
    assert set(result.written) == {"nearest"}


def test_a_recovery_that_makes_it_worse_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECOVERED, "none", 1.0)
    monkeypatch.setitem(RECOVERED, "short", 1.5)
    monkeypatch.setitem(RECOVERED, "full", 2.0)
    for target, drops in ((None, ["validation.accuracy 0.03"]), ("model.flops <= 50%", [])):
        result, _ = searched(target, drops)
        assert result.chosen is not None
        assert result.chosen.recovery == "none"


@pytest.mark.parametrize("most", range(4, 21))
def test_so_many_tries_are_never_exceeded(most: int) -> None:
    for target, drops in (
        ("model.flops <= 30%", []),
        (None, ["validation.accuracy 0.01"]),
        ("model.flops <= 30%", ["validation.accuracy 0.05"]),
        ("model.flops <= 5%", ["validation.accuracy 0.01"]),
    ):
        result, tries = searched(target, drops, most=most)
        assert len(tries.all) <= most
        assert result.told is not None
        assert result.told.final
