"""Ranking against brute force and the definitions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.tuning.trials import ranking
from modelopt_cli.tuning.trials.trial import State, Trial

LOSS = st.integers(-3, 3).map(float)  # few values, so that ties are frequent
POINTS = st.integers(1, 3).flatmap(lambda d: st.lists(st.tuples(*[LOSS] * d), max_size=14))


def trial(
    number: int, losses: tuple[float, ...] | None, violation: float = 0.0, state: State = State.COMPLETED
) -> Trial:
    return Trial(number, {}, 0, state, losses=losses, violation=violation)


def dominated(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """`a` by `b`, from the definition."""
    return all(y <= x for x, y in zip(a, b, strict=True)) and any(y < x for x, y in zip(a, b, strict=True))


@given(POINTS)
def test_non_dominated_agrees_with_brute_force(points: list[tuple[float, ...]]) -> None:
    expected = [i for i, a in enumerate(points) if not any(dominated(a, b) for b in points)]
    assert ranking.non_dominated(points) == expected


@given(POINTS)
def test_fronts_agree_with_peeling(points: list[tuple[float, ...]]) -> None:
    rest, expected = list(range(len(points))), []
    while rest:
        front = [i for i in rest if not any(dominated(points[i], points[j]) for j in rest)]
        expected.append(front)
        rest = [i for i in rest if i not in front]
    assert ranking.fronts(points) == expected


def test_crowding_by_hand() -> None:
    # Middle point: (10 - 0) / 10 in the first objective, (10 - 0) / 10 in the second.
    assert ranking.crowding([(0.0, 10.0), (4.0, 5.0), (10.0, 0.0)]) == [math.inf, 2.0, math.inf]
    assert ranking.crowding([]) == []
    assert ranking.crowding([(1.0, 1.0)]) == [math.inf]
    assert all(math.isinf(value) or value == 0 for value in ranking.crowding([(1.0, 1.0)] * 4))


@given(st.lists(st.tuples(st.tuples(LOSS, LOSS), st.sampled_from([0.0, 0.5, 2.0])), max_size=10))
def test_the_front_is_what_no_trial_is_better_than(rows: list[tuple[tuple[float, float], float]]) -> None:
    trials = [trial(number, losses, violation) for number, (losses, violation) in enumerate(rows)]
    feasible = [each for each in trials if each.violation == 0]
    if feasible:
        assert ranking.front(trials) == [a for a in trials if not any(ranking.better(b, a) for b in trials)]
    best = ranking.best(trials)
    assert (best is None) == (not trials)
    if best is not None:
        assert best in ranking.front(trials), "the best is one of the front"
        assert not any(ranking.better(other, best) for other in trials)


def test_feasibility_comes_before_the_loss() -> None:
    trials = [trial(0, (0.1,), violation=0.2), trial(1, (5.0,)), trial(2, (4.0,)), trial(3, None, state=State.FAILED)]
    assert ranking.best(trials) == trials[2]
    assert ranking.best(trials[:1]) == trials[0], "the least infeasible when none is feasible"
    assert ranking.best(trials[3:]) is None


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.PAUSED, State.FAILED])
def test_only_ended_trials_count(state: State) -> None:
    assert ranking.best([trial(0, (1.0,)), trial(1, (0.0,), state=state)]) == trial(0, (1.0,))


def test_a_stopped_trial_counts_and_ties_go_to_the_earliest() -> None:
    trials = [trial(0, (1.0,)), trial(1, (0.5,), state=State.STOPPED), trial(2, (0.5,))]
    assert ranking.best(trials) == trials[1]
    assert ranking.front(trials) == trials[1:]
