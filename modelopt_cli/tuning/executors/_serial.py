"""A pool of one slot that computes while it is waited for."""

from __future__ import annotations

import resource
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.processes.interrupts import noting_interrupts
from modelopt_cli.tuning.executors import Event, Limits, Pool
from modelopt_cli.tuning.executors._paused_states import IN_BYTES, MOST_SUSPENDED, PausedStates, packed, unpacked
from modelopt_cli.tuning.executors._process_state import ProcessState
from modelopt_cli.tuning.executors._trial_run import TrialRun

if TYPE_CHECKING:
    from modelopt_cli.tuning.objective import Objective
    from modelopt_cli.tuning.trials.trial import Trial

_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


class SerialPool(Pool):
    """Computes inside `wait`, in slices, so that the caller may look at the clock between steps."""

    slots = 1

    def __init__(self, objective: Objective, limits: Limits, folder: Path | None = None) -> None:
        self._objective, self._limits = objective, limits
        self._current: TrialRun | None = None
        self._waiting: dict[int, TrialRun] = {}
        self._suspended: dict[int, TrialRun] = {}  # paused as they are
        self._states = PausedStates(IN_BYTES, folder=folder)
        self._seconds: dict[int, float] = {}  # that trials under way have used
        self._events: list[Event] = []
        self._process = ProcessState()

    def start(self, trial: Trial, until: int | None, ancestors: Sequence[Trial] = ()) -> None:
        self._seconds.setdefault(trial.number, 0.0)
        held = self._waiting.pop(trial.number, None) or self._suspended.pop(trial.number, None)
        if held is not None:
            held.go_on(until)
        self._current = held or self._open(trial, ancestors, until)

    def _open(self, trial: Trial, ancestors: Sequence[Trial], until: int | None = None) -> TrialRun:
        state, to_compute = self._states.of(trial, ancestors)
        self._process.restore(trial.seed)
        return TrialRun(
            trial.number,
            self._objective,
            trial.params,
            trial.seed,
            state=unpacked(state),
            ancestors=to_compute,
            until=until,
        )

    def stop(self, trial: Trial, ancestors: Sequence[Trial] = ()) -> None:
        held = self._waiting.pop(trial.number, None) or self._suspended.pop(trial.number, None)
        run = held or self._open(trial, ancestors)
        with noting_interrupts():
            self._events.append(run.stop(trial.step))

    def pause(self, number: int) -> None:
        run = self._waiting.pop(number)
        state = packed(run.state())
        if state is None and len(self._suspended) < MOST_SUSPENDED and run.suspend():
            self._suspended[number] = run
            return
        self._states.put(number, run.step, state)
        run.close()

    def keep(self, numbers: Collection[int]) -> None:
        self._states.keep(numbers)

    def wait(self, seconds: float) -> list[Event]:
        events, self._events = self._events, []
        if not events and self._current is not None:
            with noting_interrupts():
                event = self._current.advance(seconds)
            events = [self._limited(event, self._current)]
        for event in events:
            if event.waits and self._current is not None:
                self._waiting[event.number] = self._current
            if event.waits or event.done:
                self._current = None
            if event.done:
                self._seconds.pop(event.number, None)
        self.peak_bytes = max(self.peak_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT)
        return events

    def _limited(self, event: Event, run: TrialRun) -> Event:
        """The event, or a failure in its place when the trial has used up its time."""
        self._seconds[event.number] += event.seconds
        limit = self._limits.seconds
        if event.done or limit is None or self._seconds[event.number] <= limit:
            return event
        run.close()
        reason = f"took longer than tuning.trial_timeout ({limit:g} s)"
        return Event(event.number, event.reports, done=True, failure="timeout", reason=reason, seconds=event.seconds)

    def close(self) -> None:
        current = [self._current] if self._current else []
        for run in [*self._waiting.values(), *self._suspended.values(), *current]:
            run.close()
        self._waiting, self._suspended, self._current = {}, {}, None
        self._process.restore()
        self._states.close()
