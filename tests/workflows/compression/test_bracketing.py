"""The border between shares that pass and shares that do not, border_found in few questions."""

from __future__ import annotations

import math
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.workflows.compression.target.bracketing import LEAST, TOLERANCE, Border, largest_within, smallest

shares = st.floats(LEAST, 1.0)
drops = st.floats(0.0, 0.5)


class Asked:
    """What was asked, and how often one may ask."""

    def __init__(self, most: int = 100) -> None:
        self.shares: list[float] = []
        self._most = most

    def go_on(self) -> bool:
        return len(self.shares) < self._most

    def passes(self, border: float) -> Callable[[float], bool]:
        def ask(share: float) -> bool:
            self.shares.append(share)
            return share >= border

        return ask

    def cost(self, function: Callable[[float], float | None]) -> Callable[[float], float | None]:
        def ask(share: float) -> float | None:
            self.shares.append(share)
            return function(share)

        return ask


@given(shares)
def test_the_border_is_within_the_tolerance_and_takes_few_questions(border: float) -> None:
    asked = Asked()
    narrowed = smallest(asked.passes(border), Border(1.0), asked.go_on)
    assert border <= narrowed.passing <= max(border * (1.0 + TOLERANCE), LEAST * (1.0 + TOLERANCE)) + 1e-12
    assert narrowed.failing < border
    halvings = math.ceil(math.log2(1.0 / border))
    assert len(asked.shares) <= halvings + 5


@given(drops, drops)
def test_the_larger_the_drop_that_is_allowed_the_smaller_the_model(one: float, other: float) -> None:
    def least(allowed: float) -> float:
        asked = Asked()
        needed = max(0.0, 1.0 - allowed / 0.5)  # the drop grows as the share shrinks: 0 at 1, a half at 0
        return smallest(asked.passes(needed), Border(1.0), asked.go_on).passing

    low, high = sorted([one, other])
    assert least(high) <= least(low) * (1.0 + TOLERANCE)


@given(shares, st.integers(0, 6))
def test_however_few_questions_there_are_what_is_said_to_pass_does(border: float, most: int) -> None:
    asked = Asked(most)
    narrowed = smallest(asked.passes(border), Border(1.0), asked.go_on)
    assert narrowed.passing >= border
    assert len(asked.shares) <= most


def test_the_first_step_can_be_a_small_one() -> None:
    asked = Asked()
    smallest(asked.passes(0.3), Border(0.5), asked.go_on, step=0.8)
    assert asked.shares[0] == 0.4


@given(limit=st.floats(0.02, 0.99), overhead=st.floats(0.0, 0.5), power=st.floats(0.5, 2.0))
def test_a_cost_that_grows_with_the_share_is_met_near_enough(limit: float, overhead: float, power: float) -> None:
    def cost(share: float) -> float:
        return overhead + (1.0 - overhead) * share**power

    asked = Asked(40)
    share = largest_within(asked.cost(cost), limit, asked.go_on, whole=1.0, first=limit, exact=False)
    if share is None:
        assert cost(LEAST * 1.2) > limit * (1.0 - 1e-9)
        return
    assert cost(share) <= limit
    assert cost(share) >= limit * 0.9 or cost(share * 1.1) > limit or share > 0.95


def test_a_share_of_the_very_cost_is_taken_at_once() -> None:
    asked = Asked()
    share = largest_within(asked.cost(lambda share: 0.97 * share), 0.3, asked.go_on, whole=1.0, first=0.3, exact=True)
    assert (share, asked.shares) == (0.3, [0.3])


def test_where_nothing_so_small_can_be_made_none_is_found_and_few_are_tried() -> None:
    asked = Asked()
    floor = 0.08
    share = largest_within(
        asked.cost(lambda share: share if share >= floor else None),
        0.01,
        asked.go_on,
        whole=1.0,
        first=0.01,
        exact=True,
    )
    assert share is None
    assert len(asked.shares) <= 8
    assert min(share for share in asked.shares if share >= floor) <= floor * 1.2
