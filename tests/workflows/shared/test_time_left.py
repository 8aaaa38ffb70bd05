"""How long a run will still take: on simulated clocks, right within a factor of two after a fifth of the work.

Or it is said to be unknown. Simulations are seeded, so that they say the same each time.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from modelopt_cli.tuning.objective import Part
from modelopt_cli.tuning.trials.trial import Point, State, Trial
from modelopt_cli.workflows.shared.context import (
    Counted,
    CourseAhead,
    NextSeed,
    SearchEnded,
    SearchStarted,
    TrialChanged,
)
from modelopt_cli.workflows.shared.forecast import forecast
from modelopt_cli.workflows.shared.time_left import Estimate, TimeLeft


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Seen:
    """(seconds since the beginning, what was foreseen then), after each event."""

    began: float
    at: list[tuple[float, Estimate | None]] = field(default_factory=list)

    def check(self, end: float, *, known: float = 0.0) -> None:
        """After a fifth of the work within a factor of two, or unknown; in at least the share `known` it is known."""
        whole = end - self.began
        later = [(when, left) for when, left in self.at if 0.2 * whole <= when - self.began <= 0.95 * whole]
        assert later, "nothing was asked after a fifth of the work"
        for when, left in later:
            true = end - when
            if left is not None and not left.at_most:
                assert true / 2 <= left.seconds <= 2 * true, f"at {(when - self.began) / whole:.0%}: {left}, but {true}"
            elif left is not None:
                assert left.seconds >= true / 2
        share = sum(left is not None for _, left in later) / len(later)
        assert share >= known, f"known in {share:.0%} of the times"


def course(parts: list[tuple[Part, Callable[[int], float]]], *, tick: float = 0.25) -> tuple[TimeLeft, Clock, Seen]:
    """Run the parts, a unit at a time, each of which takes what its function says of its number."""
    clock = Clock()
    left, seen = TimeLeft(clock), Seen(clock.now)

    def ahead(first: int, units: float) -> tuple[Part, ...]:
        now = replace(parts[first][0], units=units)
        return (now, *(part for part, _ in parts[first + 1 :]))

    left.take(CourseAhead(ahead(0, parts[0][0].units)))
    for number, (part, seconds) in enumerate(parts):
        for unit in range(int(part.units)):
            whole = seconds(unit)
            passed = 0.0
            while passed + tick < whole:
                clock.now += tick
                passed += tick
                seen.at.append((clock.now, left.left()))
            clock.now += whole - passed
            rest, one = part.units - unit - 1, Part(part.kind, 1)
            if rest or number + 1 < len(parts):
                following = ahead(number, rest) if rest else tuple(one for one, _ in parts[number + 1 :])
                left.take(CourseAhead(following, one))
                seen.at.append((clock.now, left.left()))
    return left, clock, seen


def test_epochs_that_cost_alike() -> None:
    _, clock, seen = course([(Part("epoch", 20), lambda _: 3.0), (Part("judging", seconds=0.5), lambda _: 1.0)])
    seen.check(clock.now, known=1.0)


def test_the_first_epoch_pays_for_warming_up() -> None:
    _, clock, seen = course([(Part("epoch", 20), lambda unit: 6.0 if unit == 0 else 2.0)])
    seen.check(clock.now, known=0.6)


def test_epochs_that_grow() -> None:
    _, clock, seen = course([(Part("epoch", 30), lambda unit: 0.5 + 0.25 * unit)])
    seen.check(clock.now, known=0.6)


@pytest.mark.parametrize("ranking", [2.0, 300.0])
def test_a_pruning_of_unknown_cost_is_unknown_until_it_is_done(ranking: float) -> None:
    parts = [
        (Part("train", 10), lambda _: 2.0),
        (Part("prune"), lambda _: ranking),
        (Part("recover", 10, (("train", 1.0),)), lambda _: 3.0),
        (Part("judging", like=(("recover", 0.6),), seconds=4.0), lambda _: 5.0),
    ]
    _, clock, seen = course(parts, tick=1.0)
    seen.check(clock.now)
    before = [left for when, left in seen.at if when - seen.began < 20]
    after = [left for when, left in seen.at if when - seen.began > 20 + ranking + 3]
    assert set(before) == {None}
    assert None not in after


def test_a_second_pruning_costs_what_the_first_did() -> None:
    parts = []
    for _ in range(4):
        parts += [(Part("prune"), lambda _: 10.0), (Part("recover", 4), lambda _: 2.0)]
    _, clock, seen = course(parts)
    seen.check(clock.now, known=0.9)


def test_a_student_costs_what_it_cost_alone_and_its_teachers() -> None:
    parts = [
        (Part("teacher", 10), lambda _: 4.0),
        (Part("student alone", 10), lambda _: 1.0),
        (Part("student", 10, (("student alone", 1.1), ("teacher", 0.3))), lambda _: 2.0),
    ]
    _, clock, seen = course(parts)
    seen.check(clock.now)
    alone = [left for when, left in seen.at if 42 < when - seen.began < 50]
    assert None not in alone, "both that the student costs as much as are known"


def test_a_long_epoch_is_foreseen_from_its_batches() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    left.take(CourseAhead((Part("epoch", 1, counts="batches"),)))
    for batch in range(1, 11):
        clock.now += 10.0
        left.take(Counted("batches", batch, 20))
        left.take(Counted("batches judged", 1, 1000))
    estimate = left.left()
    assert estimate is not None
    assert estimate.seconds == pytest.approx(100.0)


def test_seeds_still_to_come_count() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    for number in (1, 2):
        left.take(NextSeed(number - 1, number, 3))
        for epoch in range(10):
            done = None if epoch == 0 else Part("epoch", 1)
            left.take(CourseAhead((Part("epoch", 10 - epoch),), done))
            if (number, epoch) == (2, 5):
                estimate = left.left()
                assert estimate is not None
                assert estimate.seconds == pytest.approx(10.0 + 20.0, rel=0.1)
                return
            clock.now += 2.0


# Searches


def simulated(
    lengths: list[float],
    workers: int,
    *,
    steps: int = 0,
    stops: bool = False,
    refit: float = 0.0,
    overhead: float = 0.0,
    timeout: float | None = None,
) -> tuple[Clock, Seen]:
    """A search of as many trials on so many workers; trial number n holds a worker for lengths[n]."""
    clock = Clock()
    left, seen = TimeLeft(clock), Seen(clock.now)
    left.take(
        SearchStarted(
            "s", len(lengths), 0, ("minimize loss",), workers=workers, timeout=timeout, stops=stops, refits=refit > 0.0
        )
    )
    waiting = list(enumerate(lengths))[::-1]
    events: list[tuple[float, int, int]] = []  # (when, trial, steps done; -1: the end)

    def start() -> None:
        number, length = waiting.pop()
        left.take(TrialChanged(Trial(number, {}, 0, State.RUNNING), None))
        for step in range(1, steps):
            heapq.heappush(events, (clock.now + length * step / steps, number, step))
        heapq.heappush(events, (clock.now + length, number, -1))

    for _ in range(min(workers, len(waiting))):
        start()
    while events:
        when, number, step = heapq.heappop(events)
        if timeout is not None and when > seen.began + timeout:
            clock.now = seen.began + timeout
            return clock, seen
        clock.now = when
        curve = tuple(Point(each, {}) for each in range(1, max(step, 1) + 1)) if step > 0 else ()
        state = State.RUNNING if step > 0 else State.COMPLETED
        total = steps if steps and not stops else None
        left.take(TrialChanged(Trial(number, {}, 0, state, curve, total=total), None))
        if state is State.COMPLETED and waiting:
            clock.now += overhead
            start()
        seen.at.append((clock.now, left.left()))
    clock.now += refit
    left.take(SearchEnded())
    return clock, seen


def test_trials_that_cost_alike() -> None:
    clock, seen = simulated([10.0] * 40, 1)
    seen.check(clock.now, known=1.0)


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_trials_on_several_workers(workers: int) -> None:
    draw = random.Random(workers)
    clock, seen = simulated([draw.uniform(5.0, 15.0) for _ in range(60)], workers, steps=5)
    seen.check(clock.now, known=0.9)


def test_trials_that_grow() -> None:
    clock, seen = simulated([1.0 + 0.5 * number for number in range(60)], 1)
    seen.check(clock.now, known=0.9)


def test_time_between_trials_counts() -> None:
    clock, seen = simulated([1.0] * 40, 1, overhead=3.0)
    seen.check(clock.now, known=0.9)


def test_the_best_is_trained_again_in_the_end() -> None:
    clock, seen = simulated([10.0] * 10, 5, refit=10.0)
    seen.check(clock.now, known=0.5)


@pytest.mark.slow
def test_trials_that_a_stopper_ends_early() -> None:
    """Lengths as those of ASHA: two thirds end at a ninth of the steps, a ninth goes on to the end."""
    wrong, known, asked = 0, 0, 0
    for seed in range(40):
        draw = random.Random(seed)
        lengths = draw.choices([1.0, 3.0, 9.0], [6, 2, 1], k=80)
        clock, seen = simulated(lengths, 4, steps=9, stops=True)
        for when, left in seen.at:
            if 0.2 <= (when - seen.began) / (clock.now - seen.began) <= 0.95:
                true, asked = clock.now - when, asked + 1
                known += left is not None
                wrong += left is not None and not true / 2 <= left.seconds <= 2 * true
    assert wrong <= 0.05 * asked, f"{wrong} of {asked} were off by more than a factor of two"
    assert known >= 0.5 * asked


def test_a_search_with_a_time_limit_ends_by_then() -> None:
    clock, seen = simulated([10.0] * 1000, 2, timeout=200.0)
    seen.check(clock.now, known=1.0)


def test_an_open_search_is_unknown() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    left.take(SearchStarted("s", None, 0, ("minimize loss",)))
    for number in range(9):
        for state in (State.RUNNING, State.COMPLETED):
            left.take(TrialChanged(Trial(number, {}, 0, state), None))
            clock.now += 1.0
    assert left.left() is None


def test_a_scheduler_shares_out_a_known_amount_of_steps() -> None:
    """Successive halving: 30 complete trials of 9 steps are spent as rungs of 1, 3 and 9 steps."""
    clock = Clock()
    left, seen = TimeLeft(clock), Seen(clock.now)
    left.take(SearchStarted("s", None, 0, ("minimize loss",), stops=True, shares_steps=True, budget=30))
    spent, number = 0, 0
    while spent < 270:
        length = (1, 1, 1, 1, 1, 1, 3, 3, 9)[number % 9]
        for step in range(length + 1):
            curve = tuple(Point(each, {}) for each in range(1, step + 1))
            ended = step == length
            state = State.RUNNING if not ended else State.COMPLETED if length == 9 else State.STOPPED
            left.take(TrialChanged(Trial(number, {}, 0, state, curve, total=9), None))
            clock.now += 0.0 if ended else 1.0
            seen.at.append((clock.now, left.left()))
        spent, number = spent + length, number + 1
    seen.check(clock.now, known=0.95)


# Forecasts


def test_nothing_seen_is_nothing_foreseen() -> None:
    assert forecast([], 3) is None


def test_a_line_goes_on() -> None:
    foreseen = forecast([float(at) for at in range(1, 11)], 5)
    assert foreseen is not None
    assert foreseen.seconds == pytest.approx(11 + 12 + 13 + 14 + 15)
    assert foreseen.error == pytest.approx(0.0, abs=1e-9)


def test_noise_is_no_trend_and_is_told() -> None:
    draw = random.Random(3)
    foreseen = forecast([draw.uniform(1.0, 9.0) for _ in range(50)], 100)
    assert foreseen is not None
    assert foreseen.seconds == pytest.approx(500.0, rel=0.2)
    assert 10.0 < foreseen.error < 100.0
