"""Hypervolume against inclusion-exclusion, chance and the definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.tuning.analysis.hypervolume import contribution, hypervolume, over_trials, reference_of
from modelopt_cli.tuning.trials.trial import State, Trial

Losses = tuple[float, ...]

LOSS = st.one_of(st.integers(0, 4).map(float), st.floats(0, 4))  # ties are frequent
POINTS = st.integers(1, 5).flatmap(lambda d: st.lists(st.tuples(*[LOSS] * d), min_size=1, max_size=7))


def by_inclusion_and_exclusion(points: list[Losses], reference: Losses) -> float:
    total = 0.0
    for size in range(1, len(points) + 1):
        for some in itertools.combinations(points, size):
            corner = [max(column) for column in zip(*some, strict=True)]
            total -= (-1) ** size * math.prod(max(r - x, 0.0) for x, r in zip(corner, reference, strict=True))
    return total


@given(POINTS)
def test_it_is_what_inclusion_and_exclusion_give(points: list[Losses]) -> None:
    reference = tuple(3.0 for _ in points[0])  # some points lie beyond it
    expected = by_inclusion_and_exclusion(points, reference)
    assert hypervolume(points, reference) == pytest.approx(expected, abs=1e-9)


@given(POINTS, st.randoms())
def test_order_and_dominated_points_change_nothing(points: list[Losses], random: object) -> None:
    reference = tuple(5.0 for _ in points[0])
    volume = hypervolume(points, reference)
    more = [*points, tuple(x + 0.5 for x in points[0]), points[-1]]
    random.shuffle(more)  # type: ignore[attr-defined]
    assert hypervolume(more, reference) == pytest.approx(volume)
    turned = [point[::-1] for point in points]
    assert hypervolume(turned, reference) == pytest.approx(volume), "objectives may be permuted"


@given(POINTS)
def test_a_contribution_is_the_difference_that_a_point_makes(points: list[Losses]) -> None:
    reference = tuple(3.0 for _ in points[0])
    *others, point = points
    expected = hypervolume(points, reference) - hypervolume(others, reference)
    assert contribution(point, others, reference) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_it_is_the_share_of_draws_that_are_dominated(objectives: int) -> None:
    """Four standard errors of the share: one false alarm in 16,000, were the draws not seeded."""
    rng = np.random.default_rng(objectives)
    points = rng.random((30, objectives))
    draws = rng.random((40_000, objectives))
    share = (points[:, None] <= draws[None]).all(2).any(0).mean()
    volume = hypervolume([tuple(row) for row in points.tolist()], (1.0,) * objectives)
    assert volume == pytest.approx(share, abs=4 * 0.5 / 40_000**0.5)


def test_by_hand() -> None:
    assert hypervolume([], (1.0, 1.0)) == 0.0
    assert hypervolume([(0.0, 0.0)], (2.0, 3.0)) == 6.0
    assert hypervolume([(0.0, 2.0), (1.0, 1.0), (2.0, 0.0)], (3.0, 3.0)) == 6.0
    assert hypervolume([(3.0, -1.0)], (3.0, 3.0)) == 0.0, "on the edge"


def trial(number: int, losses: Losses | None, violation: float = 0.0, state: State = State.COMPLETED) -> Trial:
    return Trial(number, {}, 0, state, losses=losses, violation=violation)


def test_the_reference_lies_a_tenth_beyond_the_front() -> None:
    front = [trial(0, (0.0, 10.0)), trial(1, (1.0, 0.0))]
    assert reference_of([*front, trial(2, (1e9, 1e9)), trial(3, (-9.0, -9.0), 1.0)]) == (1.1, 11.0)
    assert reference_of([trial(0, (1.0, 0.0)), trial(1, (3.0, 0.0))]) == (1.2, 0.1), "range of all, then 1"
    assert reference_of([trial(0, (-4.0,))]) == (-3.6,)
    assert reference_of([trial(0, (1.0, 1.0), 2.0), trial(1, None, state=State.FAILED)]) is None


def test_over_trials_it_never_falls_and_ends_at_the_fronts() -> None:
    rng = np.random.default_rng(0)
    trials = [trial(i, tuple(row), 0.5 * (i % 3 == 2)) for i, row in enumerate(rng.random((20, 3)).tolist())]
    trials.append(trial(20, None, state=State.FAILED))
    rows = over_trials(trials, (1.0, 1.0, 1.0))
    assert [number for number, _ in rows] == list(range(20)), "a failed one has no row"
    volumes = [volume for _, volume in rows]
    assert volumes == sorted(volumes)
    feasible = [each.losses or () for each in trials[:20] if each.violation == 0]
    assert volumes[-1] == pytest.approx(hypervolume(feasible, (1.0, 1.0, 1.0)))
    assert volumes[2] == volumes[1], "an infeasible one adds nothing"
