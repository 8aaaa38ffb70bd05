"""One trial's run under way, its exceptions turned into that trial's failure. Both executors compute through this."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import FailureKind, ModeloptError, TrialError
from modelopt_cli.tuning.executors import Event

if TYPE_CHECKING:
    from modelopt_cli.tuning.objective import Objective, Report, Run
    from modelopt_cli.tuning.trial import Params

FOREVER = sys.maxsize


class Contained:
    """A run of one trial: advances in slices of time, tells what happened as events, never raises an Exception."""

    def __init__(self, number: int, open_run: Callable[[], Run], until: int | None) -> None:
        self.number, self.until = number, FOREVER if until is None else until
        self._open_run = open_run
        self._run: Run | None = None
        self.ended = False

    @classmethod
    def of(cls, objective: Objective, number: int, params: Params, seed: int, until: int | None, state: Any) -> Contained:
        """The run of `params`, opened when it first advances."""
        return cls(number, lambda: objective.open(params, seed, state), until)

    def advance(self, slice_seconds: float) -> Event:
        """Compute until `until`, the end, or until the slice is used up (at least one step)."""
        start, reports = time.perf_counter(), []
        try:
            run = self._run = self._run or self._open_run()
            while run.step < min(run.total, self.until) and time.perf_counter() - start < slice_seconds:
                reports += self._step(run)
            if run.step >= run.total:
                return self._done(reports, start)
            waits = run.step >= self.until
            return Event(self.number, reports, step=run.step, waits=waits, seconds=time.perf_counter() - start)
        except Exception as error:
            return self._failed(error, reports, start)

    @staticmethod
    def _step(run: Run) -> list[Report]:
        return [(step, dict(metrics)) for step, metrics in run.advance(run.step + 1)]

    def stop(self) -> Event:
        """End the run early; its metrics as they are."""
        start = time.perf_counter()
        try:
            return self._done([], start)
        except Exception as error:
            return self._failed(error, [], start)

    def _done(self, reports: list[Report], start: float) -> Event:
        assert self._run is not None
        metrics, step = dict(self._run.metrics()), self._run.step
        self.close()
        return Event(self.number, reports, metrics, step, done=True, seconds=time.perf_counter() - start)

    def _failed(self, error: Exception, reports: list[Report], start: float) -> Event:
        kind, reason = classify(error)
        self.close()
        seconds = time.perf_counter() - start
        return Event(self.number, reports, done=True, failure=kind, reason=reason, seconds=seconds)

    def state(self) -> Any:
        """What resuming needs; None when the run cannot be resumed."""
        return None if self._run is None else self._run.state()

    def close(self) -> None:
        """Free what the run holds."""
        self.ended = True
        run, self._run = self._run, None
        if run is not None:
            try:
                run.close()
            except Exception:  # noqa: S110, BLE001  (the trial's result stands; nothing is left to undo)
                pass


def classify(error: BaseException) -> tuple[FailureKind, str]:
    """How a trial failed, and why in one line."""
    if isinstance(error, TrialError):
        return error.kind, error.reason
    text = (str(error).strip().splitlines() or [""])[0][:300]
    if isinstance(error, ModeloptError):
        return "error", text
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or "can't allocate memory" in text:
        return "memory", f"out of memory: {text}" if text else "out of memory"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return "error", f"{name}: {text}{place}" if text else f"{name}{place}"
