"""A search on recorded curves and a virtual clock: what a sampler, a stopper or a scheduler is worth.

The pool of workers computes nothing: a step of a trial takes the time that its record says, and events come in the
order of that clock. All else, the study and the loop included, is what a real search runs.

>>> from modelopt_cli.tuning.study.study import Study
>>> study = Study({"x": {"float": [0, 1]}}, "random")
>>> curve = lambda params: [(10.0, {"loss": params["x"] + 1 / step}) for step in range(1, 6)]
>>> simulated = simulate(study, curve, trials=8, workers=4)
>>> simulated.seconds
100.0
>>> len(simulated.history)
40
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelopt_cli.tuning.executors import Event, Pool
from modelopt_cli.tuning.search.result import SearchResult
from modelopt_cli.tuning.search.search import Search

if TYPE_CHECKING:
    from modelopt_cli.tuning.schedulers import Scheduler
    from modelopt_cli.tuning.stoppers import Stopper
    from modelopt_cli.tuning.study.study import Study
    from modelopt_cli.tuning.trials.trial import Params, Trial

Curve = Sequence[tuple[float, Mapping[str, float]]]
"""For each step of a complete trial: the seconds that it takes, and the metrics after it."""


@dataclass(frozen=True)
class Simulated:
    """What came of it. `history`: (clock, trial, step, metrics) of every step, in order of the clock."""

    seconds: float  # on the virtual clock, until the last step of all
    history: Sequence[tuple[float, int, int, Mapping[str, float]]]
    result: SearchResult
    computed: float  # seconds that all workers have computed together
    utilisation: float
    """The share of the workers' time in which they computed, until the last trial was begun: from then on there is not
    enough for all. 1 where all were begun at once."""
    events: int  # that the search was told


def simulate(
    study: Study,
    curve: Callable[[Params], Curve],
    *,
    trials: int | None,
    workers: int = 1,
    stopper: Stopper | None = None,
    scheduler: Scheduler | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    deciding: float = 0.0,
) -> Simulated:
    """Search `study` with `workers` at a time on the recorded `curve` of each setting.

    It ends as a real search does, or before the first step that begins after `steps` steps in all, or at `seconds` on
    the clock. Paused trials go on where they were; one that starts from another's state enters its own recorded curve
    at that step, for a record knows of no change on the way.

    `deciding`: seconds on the clock that the search takes for each event, one after another, while the worker that it
    came from waits, if it has nothing to go on with: how many workers one search can keep busy.
    """
    pool = _VirtualPool(curve, workers, steps, seconds, deciding)
    search = Search(study, pool, trials=trials, stopper=stopper, scheduler=scheduler, stop=lambda: pool.ended)
    result = search.run()
    return Simulated(pool.clock, pool.history, result, pool.computed, pool.utilisation, pool.events)


class _VirtualPool(Pool):
    """Workers whose next steps lie in a heap, by the time at which they are done."""

    def __init__(
        self,
        curve: Callable[[Params], Curve],
        workers: int,
        steps: int | None,
        seconds: float | None,
        deciding: float,
    ) -> None:
        self.slots, self.clock, self.computed, self.events = workers, 0.0, 0.0, 0
        self._deciding = deciding
        self._steps_begun, self._seconds_begun = 0, 0.0  # of all trials
        self._before = (0.0, 0, 0.0)  # when the last trial was begun: the clock, and those two
        self._beyond = 0.0  # seconds of steps that were under way then, from then on
        self.history: list[tuple[float, int, int, Mapping[str, float]]] = []
        self.ended = False
        self._curve, self._steps, self._seconds = curve, steps, seconds
        self._curves: dict[int, Curve] = {}
        self._at: dict[int, int] = {}  # trial -> finished steps
        self._until: dict[int, int] = {}
        self._due: list[tuple[float, int, int]] = []  # (clock, trial, how many steps were begun before)
        self._events: list[Event] = []

    def start(self, trial: Trial, until: int | None, ancestors: Sequence[Trial] = ()) -> None:
        if trial.number not in self._curves:
            self._curves[trial.number] = self._curve(trial.params)
            self._at[trial.number] = trial.step
            self._before, self._beyond = (self.clock, self._steps_begun, self._seconds_begun), 0.0
        total = len(self._curves[trial.number])
        self._until[trial.number] = total if until is None else min(until, total)
        self._schedule(trial.number, self.clock)

    def _schedule(self, number: int, since: float) -> None:
        seconds, _ = self._curves[number][self._at[number]]
        heapq.heappush(self._due, (since + seconds, number, self._steps_begun))
        self._steps_begun += 1
        self._seconds_begun += seconds

    def stop(self, trial: Trial, ancestors: Sequence[Trial] = ()) -> None:
        _, metrics = self._curves[trial.number][self._at[trial.number] - 1]
        self._events.append(Event(trial.number, metrics=metrics, step=self._at[trial.number], done=True))

    def wait(self, seconds: float) -> list[Event]:
        if self._events or not self._due:
            events, self._events = self._events, []
            self._take_time(len(events))
            return events
        due, number, begun = heapq.heappop(self._due)
        spent = self._steps is not None and len(self.history) >= self._steps
        if spent or (self._seconds is not None and due > self._seconds):
            self.ended = True
            return []
        took, self.clock = self._curves[number][self._at[number]][0], max(due, self.clock)
        self._take_time(1)
        self.computed += took
        if begun < self._before[1]:
            self._beyond += max(0.0, due - self._before[0])
        self._at[number] += 1
        return [self._step(number, took, due)]

    @property
    def utilisation(self) -> float:
        """See Simulated."""
        clock, _, seconds = self._before
        return (seconds - self._beyond) / (self.slots * clock) if clock else 1.0

    def _take_time(self, events: int) -> None:
        self.events += events
        self.clock += events * self._deciding

    def _step(self, number: int, took: float, at: float) -> Event:
        step, total = self._at[number], len(self._curves[number])
        _, metrics = self._curves[number][step - 1]
        self.history.append((self.clock, number, step, metrics))
        done, waits = step == total, step == self._until[number] and step < total
        if not done and not waits:  # it computes on, whether the search has time for its report or not
            self._schedule(number, at)
        final = metrics if done else None
        return Event(number, [(step, metrics)], final, step, total, done=done, waits=waits, seconds=took)
