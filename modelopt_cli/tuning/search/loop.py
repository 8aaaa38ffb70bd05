"""The search's loop: carries decisions out in the pool, and events back to the study."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import SearchError, TrialError
from modelopt_cli.tuning.executors import Event
from modelopt_cli.tuning.schedulers import Decision, Pause, Resume, Scheduler, SchedulerContext, Start, Stop
from modelopt_cli.tuning.search.result import why_failed
from modelopt_cli.tuning.study.study import Exhausted
from modelopt_cli.tuning.trials.lineage import lineage
from modelopt_cli.tuning.trials.trial import State, Trial

if TYPE_CHECKING:
    from modelopt_cli.tuning.executors import Pool
    from modelopt_cli.tuning.study.study import Study


class Loop:
    """What the loop keeps between turns: which trials run, which wait for a decision."""

    def __init__(
        self,
        study: Study,
        scheduler: Scheduler,
        planned: int | None,
        max_failures: int | None,
        on_change: Callable[[Trial], None],
        converged: Callable[[Sequence[Trial]], str],
        sizes: Sequence[int] | None,
        complete: bool,
        open_ended: bool = False,
        told: int | None = None,
    ) -> None:
        self.study, self.scheduler, self.planned, self.max_failures = study, scheduler, planned, max_failures
        self.on_change, self.converged, self.sizes, self.complete = on_change, converged, sizes, complete
        self.open_ended, self.told = open_ended, told
        self.why = converged(study.trials)  # nothing is begun any more, when set
        self.running: set[int] = set()  # computing, or waiting for a decision
        self.waiting: list[int] = []
        self.untils: dict[int, int | None] = {}  # of trials, as last told
        self.reasons: dict[int, str] = {}  # of trials that were told to stop
        self.seconds: defaultdict[int, float] = defaultdict(float)
        self.returned: set[int] = set()  # were paused (or have a parent), and have not reported since
        self.restarts = 0
        self.failures = 0
        self.exhausted = False
        self.ends: list[Event] = []  # of trials that were paused and need no pool to end

    def decide(self, pool: Pool) -> None:
        """Carry out the scheduler's decisions."""
        waiting, self.waiting, self.ends = self.waiting, [], []
        context = self._context(waiting, pool)
        decisions = self.scheduler.next(context)
        self.study.note(context, decisions)
        if self.scheduler.copies:
            pool.keep({*self.scheduler.sources(context), *(trial.number for trial in context.paused)})
        for decision in decisions:
            self._carry_out(decision, pool)

    def _context(self, waiting: Sequence[int], pool: Pool) -> SchedulerContext:
        free = 0 if self.why else max(0, pool.slots - len(self.running))
        study, left = self.study, 0 if self.why else self._left()
        context = SchedulerContext(
            study.space,
            study.trials,
            waiting,
            free,
            left,
            self.planned,
            bool(self.why),
            study.seed,
            self.sizes,
            study.goals,
            self.open_ended,
            self.told,
        )
        return replace(context, committed=self._committed(context)) if self.open_ended else context

    def _committed(self, context: SchedulerContext) -> int:
        """Steps that trials under way will still take, as far as that is known."""
        found = 0
        for number in self.running - set(context.waiting):
            until, step = self.untils.get(number), self.study.trials[number].step
            found += max(0, (until or context.total or 0) - step)
        return found

    def _left(self) -> int:
        """How many trials may still be started."""
        queued = sum(trial.state is State.QUEUED for trial in self.study.trials)
        if self.planned is None:
            return 0 if self.exhausted and not queued else 1_000_000
        begun = len(self.study.trials) - queued
        return max(0, (min(self.planned, len(self.study.trials)) if self.exhausted else self.planned) - begun)

    def _carry_out(self, decision: Decision, pool: Pool) -> None:
        match decision:
            case Start():
                self._start(decision, pool)
            case Resume(number, until):
                self.untils[number] = until
                pool.resume(number, until) if number in self.running else self._return(number, until, pool)
            case Pause(number):
                self.running.discard(number)
                pool.pause(number)
                self.on_change(self.study.pause(number))
            case Stop(number, reason):
                self.reasons[number] = reason
                if number in self.running:
                    pool.stop(self.study.trials[number], self._ancestors(number))
                    return
                trial = self.study.resume(number)
                self.running.add(number)
                if self.sizes is None:
                    pool.stop(trial, self._ancestors(number))
                else:  # its last report tells all, and its state may be lost
                    self.ends.append(Event(number, metrics=trial.curve[-1].metrics, step=trial.step, done=True))

    def _start(self, decision: Start, pool: Pool) -> None:
        try:
            trial = self.study.ask(decision.params, decision.parent)
        except Exhausted:
            self.exhausted = True
            return
        self.running.add(trial.number)
        self.untils[trial.number] = decision.until
        if trial.parent is not None:
            self.returned.add(trial.number)
        self.on_change(trial)
        pool.start(trial, decision.until, self._ancestors(trial.number))

    def _ancestors(self, number: int) -> list[Trial]:
        """Those whose state led to the trial's, oldest first."""
        trials = self.study.trials
        return lineage(trials, trials[number])[:-1]

    def _return(self, number: int, until: int | None, pool: Pool) -> None:
        """A paused trial comes back."""
        trial = self.study.resume(number)
        self.running.add(number)
        self.returned.add(number)
        self.on_change(trial)
        pool.start(trial, until, self._ancestors(number))

    def conclude(self, why: str) -> None:
        """The search is over: what is paused counts as of its last report."""
        for trial in self.study.trials:
            if trial.state is State.PAUSED and trial.curve and trial.curve[-1].losses is not None:
                metrics = dict(trial.curve[-1].metrics)
                seconds, counts = self.seconds.pop(trial.number, 0.0), not self.complete
                self.on_change(self.study.tell(trial, metrics, stopped=why, seconds=seconds, counts=counts))

    def take(self, event: Event, pool: Pool) -> None:
        """Record an event; what has reached its `until` waits for the next decision."""
        number = event.number
        self.seconds[number] += event.seconds
        self.restarts += event.again
        if event.reports:
            self._report(event)
        if event.failure is not None:
            self._end(number, TrialError(event.failure, event.reason))
        elif event.done:
            self._end(number, dict(event.metrics or {}), event.total)
        else:
            if event.waits:
                self.waiting.append(number)
            if event.reports:
                self.on_change(self.study.trials[number])

    def _report(self, event: Event) -> None:
        """Note what is new: a trial whose state was lost while it was paused repeats what it has told."""
        number, last = event.number, self.study.trials[event.number].step
        if number in self.returned and event.reports[0][0] <= last and not event.again:
            self.restarts += 1
        self.returned.discard(number)
        reports = [report for report in event.reports if report[0] > last]
        if reports:
            self.study.report_many(number, reports, event.total)

    def _end(self, number: int, result: dict[str, float] | TrialError, total: int | None = None) -> None:
        self.running.discard(number)
        stopped, seconds = self.reasons.pop(number, ""), self.seconds.pop(number, 0.0)
        counts = not (stopped and self.complete)
        total = None if stopped else total
        told = self.study.tell(number, result, stopped=stopped, seconds=seconds, counts=counts, total=total)
        self.why = self.why or self.converged(self.study.trials)
        self.failures = self.failures + 1 if told.state is State.FAILED else 0
        self.on_change(told)
        if self.max_failures is not None and self.failures >= self.max_failures:
            raise SearchError(
                f"{self.failures} trials failed in a row (tuning.max_failures), the last one thus: {told.reason}. "
                f"{why_failed(self.study.trials)}"
            )
