"""How long a run will still take, foreseen from what happened in it so far: pure, on a clock that is handed in.

A run of train, prune or distill is a course of parts that cost differently (CourseTime). A search is trials of
different length on several workers, some of them ended early (SearchTime). Where what was seen says too little, the
answer is that it is unknown: None.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from modelopt_cli.tuning.objective import Part
from modelopt_cli.tuning.trials.trial import State, Trial
from modelopt_cli.workflows.shared.context import (
    Counted,
    CourseAhead,
    NextSeed,
    Progress,
    SearchEnded,
    SearchStarted,
    TrialChanged,
)
from modelopt_cli.workflows.shared.forecast import Forecast, forecast

_SURE = 0.4  # relative standard error from which on nothing is foreseen
_GUESSED = 0.35  # relative error of what is foreseen from other parts, not from its own kind
_SLACK = 2.0  # seconds by which anything may be wrong
_LEAST_TRIALS = 2  # that have ended, before others are foreseen from them alone


@dataclass(frozen=True)
class Estimate:
    """Seconds until the run ends. `at_most`: a rule may end it before."""

    seconds: float
    at_most: bool = False


class CourseTime:
    """Of a run that is a course of parts, as events tell it (CourseAhead, EpochEnded, Counted)."""

    def __init__(self) -> None:
        self._costs: dict[str, list[float]] = {}  # kind -> seconds of a unit, one after the other
        self._ahead: tuple[Part, ...] = ()
        self._since = 0.0  # when the unit under way began
        self._share = 0.0  # of it that is done
        self._known = False

    def ahead(self, parts: Sequence[Part], now: float) -> None:
        """From here on these parts are left, the one under way first."""
        self._ahead, self._since, self._share, self._known = tuple(parts), now, 0.0, True

    def done(self, kind: str, units: float, now: float) -> None:
        """So many units of this kind are done since the last call of `ahead`."""
        if units > 0:
            self._costs.setdefault(kind, []).append((now - self._since) / units)

    def within(self, what: str, done: int, of: int | None) -> None:
        """Of the unit under way this share is done, where it is `what` is counted that the unit consists of."""
        if self._ahead and self._ahead[0].counts == what and of:
            self._share = done / of

    def left(self, now: float) -> Estimate | None:
        """Until the end of the last part."""
        if not self._known:
            return None
        total = Forecast(0.0, 0.0)
        for number, part in enumerate(self._ahead):
            each = self._of(part)
            if each is None and number == 0 and part.units <= 1.0 and self._share >= 0.1:
                passed = now - self._since  # the only unit of its kind is well under way
                each = Forecast(passed / self._share, _GUESSED * passed / self._share)
            if each is None:
                return None
            if number == 0 and part.units > 0:
                each = self._without_passed(each, part.units, now)
            total = total.plus(each)
        return Estimate(total.seconds) if _is_sure(total) else None

    def _without_passed(self, each: Forecast, units: float, now: float) -> Forecast:
        """Less what has passed of the unit under way; at most all of that unit."""
        unit = each.seconds / units
        passed = max(min(now - self._since, 0.95 * unit), self._share * unit)
        share = max(1.0 - passed / each.seconds, 0.0) if each.seconds > 0 else 0.0
        return Forecast(share * each.seconds, share * each.error)

    def _of(self, part: Part) -> Forecast | None:
        """All units of a part."""
        own = forecast(self._costs.get(part.kind, ()), part.units)
        if own is not None:
            return own
        if part.like:
            total = 0.0
            for kind, times in part.like:
                other = forecast(self._costs.get(kind, ()), part.units)
                if other is None and part.seconds is None:
                    return None
                if other is None:
                    continue
                total += times * other.seconds
            total += (part.seconds or 0.0) * part.units
            return Forecast(total, _GUESSED * total)
        if part.seconds is not None:
            return Forecast(part.seconds * part.units, _GUESSED * part.seconds * part.units)
        return None


class SearchTime:
    """Of a search, as its trials change. Seconds of a trial are those that it held a worker for."""

    def __init__(self, started: SearchStarted, now: float) -> None:
        self._search, self._began = started, now
        self._first: float | None = None  # when the first trial began
        self._running: dict[int, float] = {}  # number -> when it began, or went on
        self._held: dict[int, float] = {}  # number -> seconds before it was paused
        self._trials: dict[int, Trial] = {}
        self._reported: dict[int, float] = {}  # number -> seconds that it had held a worker for at its last report
        self._ended: list[float] = []  # seconds of each, in the order of their ends
        self._complete: list[float] = []  # of those that ran to their end
        self._steps: list[tuple[float, float]] = []  # (when, steps that all trials have taken)

    def change(self, trial: Trial, now: float) -> None:
        """A trial was started, reported, paused or has ended."""
        number, before = trial.number, self._trials.get(trial.number)
        self._trials[number] = trial
        if trial.state is State.RUNNING:
            self._first = now if self._first is None else self._first
            self._running.setdefault(number, now)
            if before is not None and trial.step > before.step:
                self._reported[number] = self._taken(number, now)
        elif number in self._running:
            self._held[number] = self._held.get(number, 0.0) + now - self._running.pop(number)
        if trial.state.finished:
            seconds = self._held.pop(number, 0.0)
            self._ended.append(seconds)
            if trial.state is State.COMPLETED:
                self._complete.append(seconds)
        if self._search.shares_steps:
            steps = sum(_steps(each, from_start=self._search.from_start) for each in self._trials.values())
            self._steps.append((now, steps))

    @property
    def ended(self) -> int:
        """Trials that have ended, those of before included."""
        return self._search.finished + len(self._ended)

    def left(self, now: float) -> Estimate | None:
        """Until the best model is finished."""
        search = self._search
        until = None if search.timeout is None else max(0.0, search.timeout - (now - self._began))
        of_trials = self._of_steps(now) if search.shares_steps else self._of_trials(now)
        if of_trials is None or not _is_sure(of_trials):
            return None if until is None else Estimate(until + (self._finishing() or 0.0), at_most=True)
        finishing = self._finishing()
        if finishing is None:
            return None
        searching = of_trials.seconds if until is None else min(of_trials.seconds, until)
        return Estimate(searching + finishing, at_most=search.may_end_before)

    def _finishing(self) -> float | None:
        """Seconds for training the best setting once more, where that is done."""
        if not self._search.refits:
            return 0.0
        known = self._complete or list(self._projected().values())
        return max(known) if known else None

    def _projected(self) -> dict[int, float]:
        """Number -> seconds of the whole trial, of running ones whose steps tell."""
        return {
            number: self._reported[number] * (trial.total - trial.born) / (trial.step - trial.born)
            for number in self._running
            for trial in [self._trials[number]]
            if number in self._reported and trial.total and trial.step > trial.born
        }

    def _taken(self, number: int, now: float) -> float:
        """Seconds that a running trial has held a worker for."""
        return self._held.get(number, 0.0) + now - self._running[number]

    def _of_trials(self, now: float) -> Forecast | None:
        search = self._search
        if search.planned is None or self._first is None:
            return None
        to_start = max(0, search.planned - search.finished - len(self._ended) - len(self._running))
        costs = list(self._ended)
        whole = {} if search.stops else self._projected()
        if len(costs) < _LEAST_TRIALS:
            costs += whole.values()
        one = forecast(costs, 1.0)
        if one is None or (len(costs) < _LEAST_TRIALS and not whole and search.planned > 1):
            return None
        running = [self._rest(number, now, whole, costs) for number in self._running]
        rest = sum((each.seconds for each in running), 0.0)
        error = math.hypot(*(each.error for each in running))
        new = forecast(costs, float(to_start)) if to_start else Forecast(0.0, 0.0)
        assert new is not None
        held = sum(self._ended) + sum(self._taken(number, now) for number in self._running)
        elapsed = max(now - self._first, 1e-9)
        at_once = min(max(held / elapsed, 0.1), float(max(search.workers, 1)))
        spread = min(at_once, float(max(to_start + len(self._running), 1)))
        seconds = (new.seconds + rest) / spread
        if to_start:
            idle = (1.0 - 1.0 / max(spread, 1.0)) * _rest_of_one(costs)  # the last trial lets other workers wait
            seconds = max(seconds + idle, new.seconds / to_start)
            return Forecast(seconds, math.hypot(new.error, error) / spread)
        last = max(running, key=lambda each: each.seconds, default=Forecast(0.0, 0.0))
        return max(last, Forecast(seconds, error / spread), key=lambda each: each.seconds)

    def _rest(self, number: int, now: float, whole: Mapping[int, float], costs: Sequence[float]) -> Forecast:
        """Of a running trial: what its steps tell, else what is left of those that took longer than it has so far."""
        taken = self._taken(number, now)
        if number in whole:
            return Forecast(max(whole[number] - taken, 0.0), 0.1 * whole[number])
        rests = [cost - taken for cost in costs if cost > taken]
        if not rests:
            return Forecast(0.5 * taken, taken)
        mean = sum(rests) / len(rests)
        return Forecast(mean, math.sqrt(sum((each - mean) ** 2 for each in rests) / len(rests)))

    def _of_steps(self, now: float) -> Forecast | None:
        """Of a scheduler that shares out the steps of `budget` complete trials."""
        total = max((trial.total or 0 for trial in self._trials.values()), default=0)
        planned = self._search.budget
        if planned is None or not total or len(self._steps) < 2 or self._first is None:
            return None
        done, budget = self._steps[-1][1], float(planned * total)
        half = next((when, steps) for when, steps in self._steps if steps >= done / 2)
        recent, seconds = done - half[1], now - half[0]
        if done < 0.05 * budget or recent <= 0 or seconds <= 0:
            return None
        left = max(budget - done, 0.0)
        return Forecast(left * seconds / recent, 0.0)


def _rest_of_one(costs: Sequence[float]) -> float:
    """What is left of a trial, met at any time of it: the mean residual life of renewal theory, E[c^2] / 2 E[c]."""
    return sum(cost**2 for cost in costs) / (2.0 * sum(costs)) if sum(costs) > 0 else 0.0


def _is_sure(total: Forecast) -> bool:
    """Whether it can be told."""
    return total.error <= max(_SURE * total.seconds, _SLACK)


def _steps(trial: Trial, *, from_start: bool) -> int:
    """Steps that a trial has taken itself; where each size is computed from the start, the sum of all."""
    if from_start:
        return sum(point.step for point in trial.curve)
    return trial.step - trial.born


class TimeLeft:
    """Takes a workflow's events; `left` says how long it will still take. `clock`: seconds that only grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._course = CourseTime()
        self._search: SearchTime | None = None
        self._seeds = 0  # that will still be run after the one under way
        self._seed_began: float | None = None
        self._of_seeds: list[float] = []  # seconds of each that is done

    def take(self, event: Progress) -> None:
        """Learn from an event."""
        now = self._clock()
        match event:
            case SearchStarted():
                self._search = SearchTime(event, now)
            case SearchEnded():
                self._search, self._course = None, CourseTime()
            case TrialChanged(trial, _) if self._search is not None:
                self._search.change(trial, now)
            case CourseAhead(ahead, done):
                if done is not None:
                    self._course.done(done.kind, done.units, now)
                self._course.ahead(ahead, now)
            case Counted(what, done, of):
                self._course.within(what, done, of)
            case NextSeed(_, number, of):
                if self._seed_began is not None:
                    self._of_seeds.append(now - self._seed_began)
                self._seed_began, self._seeds = now, of - number
            case _:
                pass

    def left(self) -> Estimate | None:
        """None: unknown."""
        now = self._clock()
        left = self._course.left(now) if self._search is None else self._search.left(now)
        if left is None or not self._seeds or self._seed_began is None:
            return left
        whole = now - self._seed_began + left.seconds
        others = forecast(self._of_seeds, self._seeds)
        return Estimate(left.seconds + (whole * self._seeds if others is None else others.seconds), left.at_most)
