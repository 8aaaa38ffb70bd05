"""One trial's run under way: opened, advanced in slices of time, its exceptions turned into the trial's failure.

Both executors compute through this. A run begins at step 0, or goes on from a state; a state that was lost is computed
again, along the line of the trials that led to it.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import TrialError
from modelopt_cli.core.processes.interrupts import from_outside
from modelopt_cli.tuning.executors import Event
from modelopt_cli.tuning.trials.failures import classify, plain_metrics

if TYPE_CHECKING:
    from modelopt_cli.tuning.objective import Objective, Run, StepReport
    from modelopt_cli.tuning.trials.trial import Params

_FOREVER = sys.maxsize


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Pass over whatever a run's code raises, where nothing is left to fail."""
    try:
        yield
    except BaseException as error:
        if from_outside(error):
            raise


@dataclass(frozen=True, slots=True)
class AncestorRun:
    """How an ancestor was computed, and up to which step: there the next trial went on from its state."""

    params: Params
    seed: int
    until: int


class TrialRun:
    """A run of one trial: advances in slices of time, tells what happened as events, and whatever the run raises is
    its failure, a SystemExit or KeyboardInterrupt of its own code too.

    It waits for a decision at its `until`, but not before it has reported something to decide by: a script may report
    every hundredth step only.
    """

    def __init__(
        self,
        number: int,
        objective: Objective,
        params: Params,
        seed: int,
        *,
        state: Any = None,
        ancestors: Sequence[AncestorRun] = (),
        until: int | None = None,
    ) -> None:
        """The run is opened when it first advances. `ancestors`: computed before it, from `state` on, oldest first."""
        self.number = number
        self._objective, self._params, self._seed, self._state = objective, params, seed, state
        self._ancestors = list(ancestors)
        self._ancestor_run: Run | None = None
        self._run: Run | None = None
        self._again = bool(ancestors)
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
        """The run; None when the ancestors' runs take longer than until `deadline`."""
        while self._run is None:
            if not self._ancestors:
                self._run = self._objective.open_trial(self.number, self._params, self._seed, self._state)
            else:
                self._compute_ancestor(self._ancestors[0])
                if time.perf_counter() >= deadline:
                    return None
        return self._run

    def _compute_ancestor(self, ancestor: AncestorRun) -> None:
        """One step of an ancestor's run; at its last, its state takes the place of the one before."""
        run = self._ancestor_run or self._objective.open(ancestor.params, ancestor.seed, self._state)
        self._ancestor_run = run
        if run.step < min(ancestor.until, run.total):
            run.advance(run.step + 1)
            return
        self._state = run.state()
        self._ancestors.pop(0)
        self._close_ancestor()
        if run.step < ancestor.until:
            text = f"it ended at step {run.step}, but had come to step {ancestor.until} before"
            raise TrialError("error", f"the lost state of the trial it goes on from cannot be computed again: {text}")
        if self._state is None:
            raise TrialError("error", "the trial that it goes on from has no state to go on from")

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
        self._objective.ended(run, self._seed, metrics)
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
        """Free what the run holds, and an ancestor's run."""
        with contained():  # the trial's result stands, and nothing is left to undo
            self._close_ancestor()
        run, self._run = self._run, None
        if run is not None:
            with contained():
                run.close()

    def _close_ancestor(self) -> None:
        run, self._ancestor_run = self._ancestor_run, None
        if run is not None:
            run.close()
