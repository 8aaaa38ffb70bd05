"""Trials one after another, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from modelopt_cli.core.errors import UsageError
from modelopt_cli.tuning.executors import Event, Executor, Limits, Pool

if TYPE_CHECKING:
    from modelopt_cli.tuning.executors._contain import Contained
    from modelopt_cli.tuning.objective import Objective
    from modelopt_cli.tuning.trial import Trial


@final
class Serial(Executor):
    """Runs trials one after another in this process: no start-up cost; contains exceptions, not crashes."""

    def open(self, objective: Objective, workers: int, limits: Limits) -> Pool:
        """A pool of one slot. Raises UsageError for a memory limit, which needs a process of its own."""
        if limits.bytes is not None:
            raise UsageError("tuning.trial_memory needs worker processes; set tuning.executor: processes, or drop the limit")
        return _SerialPool(objective, limits)


class _SerialPool(Pool):
    """Computes inside `wait`, in slices, so that the caller may look at the clock."""

    slots = 1

    def __init__(self, objective: Objective, limits: Limits) -> None:
        self._objective, self._limits = objective, limits
        self._current: Contained | None = None
        self._waiting: dict[int, Contained] = {}
        self._states: dict[int, Any] = {}  # of paused trials
        self._seconds = 0.0  # that the current trial has used
        self._events: list[Event] = []

    def start(self, trial: Trial, until: int | None) -> None:
        from modelopt_cli.tuning.executors._contain import Contained

        state = self._states.pop(trial.number, None)
        self._seconds = trial.seconds
        self._current = Contained.of(self._objective, trial.number, trial.params, trial.seed, until, state)

    def resume(self, number: int, until: int | None) -> None:
        from modelopt_cli.tuning.executors._contain import FOREVER

        self._current = self._waiting.pop(number)
        self._current.until = FOREVER if until is None else until

    def stop(self, number: int) -> None:
        self._events.append(self._waiting.pop(number).stop())

    def pause(self, number: int) -> None:
        run = self._waiting.pop(number)
        self._states[number] = run.state()
        run.close()

    def wait(self, seconds: float) -> list[Event]:
        events, self._events = self._events, []
        if events or self._current is None:
            return events
        event = self._current.advance(seconds)
        self._seconds += event.seconds
        if not event.done and self._limits.seconds is not None and self._seconds > self._limits.seconds:
            self._current.close()
            reason = f"took longer than tuning.trial_timeout ({self._limits.seconds:g} s)"
            event = Event(event.number, event.reports, done=True, failure="timeout", reason=reason, seconds=event.seconds)
        if event.waits:
            self._waiting[event.number] = self._current
        if event.waits or event.done:
            self._current = None
        self.peak_bytes = max(self.peak_bytes, _own_peak())
        return [event]

    def close(self) -> None:
        for run in [*self._waiting.values(), *([self._current] if self._current else [])]:
            run.close()


def _own_peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
