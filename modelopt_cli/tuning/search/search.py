"""The search: a scheduler's decisions go to a pool of workers, events come back to the study, until nothing is left.

>>> from modelopt_cli.tuning.executors.serial import Serial
>>> result = Search(study, Serial().open(objective), trials=20).run()  # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import SearchError, TrialError
from modelopt_cli.core.work import GivenUp
from modelopt_cli.tuning.executors import Event
from modelopt_cli.tuning.schedulers import Decision, Pause, Resume, Scheduler, SchedulerContext, Start, Stop
from modelopt_cli.tuning.schedulers._sampler_and_stopper import SamplerAndStopper
from modelopt_cli.tuning.search.result import SearchResult, check_failures, remarks, why_failed
from modelopt_cli.tuning.study.study import Exhausted
from modelopt_cli.tuning.trials.by_state import ByState, in_state
from modelopt_cli.tuning.trials.indexed import derived
from modelopt_cli.tuning.trials.lineage import lineage
from modelopt_cli.tuning.trials.trial import State, Trial

if TYPE_CHECKING:
    from modelopt_cli.tuning.executors import Pool
    from modelopt_cli.tuning.stoppers import Stopper
    from modelopt_cli.tuning.study.study import Study

_CONCLUDED = {"timeout": "the search's time was up", "converged": "the search had found enough"}
_WAIT = 0.25  # seconds between looks at the stop flag and the clock
_UNLIMITED = 1_000_000  # trials that may still be started, where nothing says how many


def _never() -> bool:
    return False


def _not_yet(trials: Sequence[Trial]) -> str:
    return ""


def _unseen(trial: Trial) -> None:
    pass


def _unread(text: str) -> None:
    pass


@dataclass
class Search:
    """Runs trials of `study` until there are `trials` (None: until time or space is up), those under way included.

    Trials that an earlier search, or process, left under way are run first. The workers are those of `pool`, which is
    closed in the end. Without a `scheduler` the study's sampler starts trials and the `stopper` may end them.
    """

    study: Study
    pool: Pool
    _: KW_ONLY
    trials: int | None
    stopper: Stopper | None = None
    scheduler: Scheduler | None = None
    timeout: float | None = None
    """Seconds after which no trial goes on; what runs then is left as interrupted, to be run first when the study is
    searched again."""
    max_failures: int | None = None
    """In a row, after which the search ends with an error."""
    stop: Callable[[], bool] = _never
    """Looked at four times a second (in this process: between steps); True: the search is interrupted, as by time."""
    converged: Callable[[Sequence[Trial]], str] = _not_yet
    """Asked after each trial that ends, and once at first: from a text on, why there is enough, none is begun."""
    on_change: Callable[[Trial], None] = _unseen
    """Called with a trial after each of its changes."""
    on_news: Callable[[str], None] = _unread
    """Called with what the pool has to tell: that it waits for a machine, or has lost one."""
    sizes: Sequence[int] | None = None
    open_ended: bool = False
    declared_total: int | None = None
    """For these three see SchedulerContext."""
    complete: bool = False
    """Whether only complete trials may be best, as where others have seen fewer folds or samples."""

    _converged_by: str = field(default="", init=False)  # by which rule: nothing is begun any more, when set
    _running: set[int] = field(default_factory=set, init=False)  # trials that compute, or wait for a decision
    _waiting: list[int] = field(default_factory=list, init=False)
    _untils: dict[int, int | None] = field(default_factory=dict, init=False)  # of trials, as last decided
    _stop_reasons: dict[int, str] = field(default_factory=dict, init=False)  # of trials that were told to stop
    _seconds: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float), init=False)
    _returned: set[int] = field(default_factory=set, init=False)  # were paused, or have a parent, and are silent since
    _restarts: int = field(default=0, init=False)
    _failures: int = field(default=0, init=False)  # in a row
    _exhausted: bool = field(default=False, init=False)
    _ends: list[Event] = field(default_factory=list, init=False)  # of paused trials that need no pool to end

    def run(self) -> SearchResult:
        """Search, once. Raises SearchError when `max_failures` trials in a row failed, or every trial did."""
        self.study.requeue()
        compared = self.stopper is not None or self.scheduler is not None
        scheduler = self.scheduler or SamplerAndStopper(stopper=self.stopper)
        self._converged_by = self.converged(self.study.history)
        start = time.monotonic()
        with self.pool:
            reason = ""
            while not reason:
                self._decide(scheduler)
                if not self._running:
                    reason = "converged" if self._converged_by else "exhausted" if self._exhausted else "completed"
                elif self.stop():
                    reason = "interrupted"
                elif self.timeout is not None and time.monotonic() - start > self.timeout:
                    reason = "timeout"
                else:
                    reason = self._wait()
            peak, of_pool = self.pool.peak_bytes, self.pool.remarks()
        if reason in _CONCLUDED:
            self._conclude(_CONCLUDED[reason])
        if reason != "interrupted":
            check_failures(self.study.history)
        warnings = remarks(reason, self.study.history, self._restarts, compared) + of_pool
        return SearchResult(reason, time.monotonic() - start, peak, warnings, self._converged_by)

    def _wait(self) -> str:
        """Take what comes from the pool. "interrupted" where a step in this process was given up, else ""."""
        try:
            events = self._ends or self.pool.wait(_WAIT)
        except GivenUp:
            return "interrupted"
        for text in self.pool.news():
            self.on_news(text)
        for event in events:
            self._take(event)
        self.study.settle()
        return ""

    # Decisions

    def _decide(self, scheduler: Scheduler) -> None:
        """Ask the scheduler, and carry out what it says."""
        waiting, self._waiting, self._ends = self._waiting, [], []
        context = self._context(waiting)
        decisions = scheduler.next(context)
        self.study.note(context, decisions)
        if scheduler.copies:
            self.pool.keep({*scheduler.sources(context), *(trial.number for trial in context.paused)})
        for decision in decisions:
            self._carry_out(decision)

    def _context(self, waiting: Sequence[int]) -> SchedulerContext:
        ending = bool(self._converged_by)
        context = SchedulerContext(
            space=self.study.space,
            trials=self.study.history,
            waiting=waiting,
            slots=0 if ending else max(0, self.pool.slots - len(self._running)),
            left=0 if ending else self._left(),
            planned=self.trials,
            ending=ending,
            seed=self.study.seed,
            sizes=self.sizes,
            goals=self.study.goals,
            constraints=self.study.constraints,
            open_ended=self.open_ended,
            declared_total=self.declared_total,
        )
        return replace(context, committed=self._committed(context)) if self.open_ended else context

    def _committed(self, context: SchedulerContext) -> int:
        """Steps that trials under way will still take, as far as that is known."""
        steps = 0
        for number in self._running - set(context.waiting):
            until, step = self._untils.get(number), self.study.history[number].step
            steps += max(0, (until or context.total or 0) - step)
        return steps

    def _left(self) -> int:
        """How many trials may still be started."""
        queued = derived(self.study.history, ByState).count(State.QUEUED)
        if self.trials is None:
            return 0 if self._exhausted and not queued else _UNLIMITED
        begun = len(self.study.history) - queued
        planned = min(self.trials, len(self.study.history)) if self._exhausted else self.trials
        return max(0, planned - begun)

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Start():
                self._start(decision)
            case Resume(number, until):
                self._resume(number, until)
            case Pause(number):
                self._running.discard(number)
                self.pool.pause(number)
                self.on_change(self.study.pause(number))
            case Stop(number, reason):
                self._stop(number, reason)

    def _start(self, decision: Start) -> None:
        try:
            trial = self.study.ask(decision.params, decision.parent)
        except Exhausted:
            self._exhausted = True
            return
        self._running.add(trial.number)
        self._untils[trial.number] = decision.until
        if trial.parent is not None:
            self._returned.add(trial.number)
        self.on_change(trial)
        self.pool.start(trial, decision.until, self._ancestors(trial.number))

    def _resume(self, number: int, until: int | None) -> None:
        """A trial that waits goes on, or one that was paused comes back."""
        self._untils[number] = until
        if number not in self._running:
            trial = self.study.resume(number)
            self._running.add(number)
            self._returned.add(number)
            self.on_change(trial)
        self.pool.start(self.study.history[number], until, self._ancestors(number))

    def _stop(self, number: int, reason: str) -> None:
        self._stop_reasons[number] = reason
        if number in self._running:
            self.pool.stop(self.study.history[number], self._ancestors(number))
            return
        trial = self.study.resume(number)
        self._running.add(number)
        if self.sizes is None:
            self.pool.stop(trial, self._ancestors(number))
        else:  # its last report tells all, and its state may be lost
            self._ends.append(Event(number, metrics=trial.curve[-1].metrics, step=trial.step, done=True))

    def _ancestors(self, number: int) -> list[Trial]:
        """Those whose state led to the trial's, oldest first."""
        trials = self.study.history
        return lineage(trials, trials[number])[:-1]

    # Events

    def _take(self, event: Event) -> None:
        """Record an event; what has reached its `until` waits for the next decision."""
        number = event.number
        self._seconds[number] += event.seconds
        self._restarts += event.again
        if event.reports:
            self._report(event)
        if event.failure is not None:
            self._end(number, TrialError(event.failure, event.reason))
        elif event.done:
            self._end(number, dict(event.metrics or {}), event.total)
        else:
            if event.waits:
                self._waiting.append(number)
            if event.reports:
                self.on_change(self.study.history[number])

    def _report(self, event: Event) -> None:
        """Note what is new: a trial whose state was lost while it was paused repeats what it has reported."""
        number, last = event.number, self.study.history[event.number].step
        if number in self._returned and event.reports[0][0] <= last and not event.again:
            self._restarts += 1
        self._returned.discard(number)
        reports = [report for report in event.reports if report[0] > last]
        if reports:
            self.study.report_many(number, reports, event.total)

    def _end(self, number: int, result: dict[str, float] | TrialError, total: int | None = None) -> None:
        self._running.discard(number)
        stopped, seconds = self._stop_reasons.pop(number, ""), self._seconds.pop(number, 0.0)
        counts = not (stopped and self.complete)
        total = None if stopped else total
        trial = self.study.tell(number, result, stopped=stopped, seconds=seconds, counts=counts, total=total)
        self._converged_by = self._converged_by or self.converged(self.study.history)
        self._failures = self._failures + 1 if trial.state is State.FAILED else 0
        self.on_change(trial)
        if self.max_failures is not None and self._failures >= self.max_failures:
            raise SearchError(
                f"{self._failures} trials failed in a row (tuning.max_failures), the last one thus: {trial.reason}. "
                f"{why_failed(self.study.history)}"
            )

    def _conclude(self, why: str) -> None:
        """The search is over: what is paused counts as of its last report."""
        for trial in in_state(self.study.history, State.PAUSED):
            if trial.curve and trial.curve[-1].losses is not None:
                metrics = dict(trial.curve[-1].metrics)
                seconds, counts = self._seconds.pop(trial.number, 0.0), not self.complete
                self.on_change(self.study.tell(trial, metrics, stopped=why, seconds=seconds, counts=counts))
