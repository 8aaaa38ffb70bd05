"""One trial's run under way, its exceptions turned into that trial's failure. Both executors compute through this."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import TrialError
from modelopt_cli.core.processes.interrupts import from_outside
from modelopt_cli.tuning.executors import Event
from modelopt_cli.tuning.trials.failures import classify, plain_metrics

if TYPE_CHECKING:
    from modelopt_cli.tuning.executors._beginning import Beginning
    from modelopt_cli.tuning.objective import Run, StepReport

_FOREVER = sys.maxsize


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Pass over whatever a run's code raises, where nothing is left to fail."""
    try:
        yield
    except BaseException as error:
        if from_outside(error):
            raise


class Contained:
    """A run of one trial: advances in slices of time, tells what happened as events, and whatever the run raises is
    its failure, a SystemExit or KeyboardInterrupt of its own code too.

    It waits for a decision at its `until`, but not before it has reported something to decide by: a script may report
    every hundredth step only.
    """

    def __init__(self, number: int, beginning: Beginning, until: int | None = None) -> None:
        """The run is opened when it first advances."""
        self.number = number
        self._beginning = beginning
        self._run: Run | None = None
        self._again = beginning.again
        self.go_on(until)

    def go_on(self, until: int | None) -> None:
        """Set the step to wait at; None: the end."""
        self._until, self._news = _FOREVER if until is None else until, False

    def advance(self, slice_seconds: float) -> Event:
        """Compute until `until`, the end, or until the slice is used up (at least one step)."""
        start = time.perf_counter()
        reports: list[StepReport] = []
        try:
            run = self._opened(start + slice_seconds)
            if run is None:
                return Event(self.number, seconds=time.perf_counter() - start)
            while run.step < run.total and not self._waits(run):
                reports += self._step(run)
                if time.perf_counter() - start >= slice_seconds:
                    break
            if run.step >= run.total:
                return self._done(run, reports, start)
            again, self._again = self._again, False
            return Event(
                self.number,
                reports,
                step=run.step,
                total=run.known_total,
                waits=self._waits(run),
                seconds=time.perf_counter() - start,
                again=again,
            )
        except BaseException as error:
            return self._failed(error, reports, start)

    def _opened(self, deadline: float = math.inf) -> Run | None:
        """The run; None when what comes before it takes longer than until `deadline`."""
        while self._run is None:
            self._run = self._beginning.next()
            if self._run is None and time.perf_counter() >= deadline:
                return None
        return self._run

    def _waits(self, run: Run) -> bool:
        return self._news and run.step >= self._until

    def _step(self, run: Run) -> list[StepReport]:
        until = min(self._until, run.total) if run.leaps else run.step + 1
        reports: list[StepReport] = [(step, plain_metrics(metrics)) for step, metrics in run.advance(until)]
        for step, _ in reports:
            if step < 0:
                raise TrialError("error", f"it reported step {step}, but steps are not negative")
        self._news = self._news or bool(reports)
        return reports

    def stop(self, step: int = 0) -> Event:
        """End the run early; its metrics as they are. One that is not open is opened, and taken to `step`."""
        start = time.perf_counter()
        try:
            run = self._opened()
            assert run is not None
            while run.step < min(step, run.total):
                run.advance(step)
            return self._done(run, [], start)
        except BaseException as error:
            return self._failed(error, [], start)

    def _done(self, run: Run, reports: list[StepReport], start: float) -> Event:
        metrics, step, total = plain_metrics(run.metrics()), run.step, run.known_total
        self._beginning.ended(run, metrics)
        self.close()
        seconds = time.perf_counter() - start
        return Event(self.number, reports, metrics, step, total, done=True, seconds=seconds, again=self._again)

    def _failed(self, error: BaseException, reports: list[StepReport], start: float) -> Event:
        if from_outside(error):
            raise error
        kind, reason = classify(error)
        self.close()
        seconds = time.perf_counter() - start
        return Event(self.number, reports, done=True, failure=kind, reason=reason, seconds=seconds)

    def state(self) -> Any:
        """What resuming needs; None when the run cannot be resumed."""
        return None if self._run is None else self._run.state()

    def suspend(self) -> bool:
        """Hold a run without a state still, for `go_on`; False: it cannot."""
        return self._run is not None and self._run.suspend()

    @property
    def step(self) -> int:
        """Finished steps."""
        return 0 if self._run is None else self._run.step

    def close(self) -> None:
        """Free what the run holds."""
        run, self._run = self._run, None
        for held in (self._beginning, run):
            if held is not None:
                with contained():  # the trial's result stands, and nothing is left to undo
                    held.close()
