"""The search: decisions go to the pool, events come back to the study, until nothing is left to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from modelopt_cli.tuning.executors import Limits
from modelopt_cli.tuning.schedulers import Scheduler
from modelopt_cli.tuning.schedulers._sampler_and_stopper import SamplerAndStopper
from modelopt_cli.tuning.search.loop import Loop
from modelopt_cli.tuning.search.result import SearchResult, check_failures, remarks
from modelopt_cli.tuning.trials.trial import Trial

if TYPE_CHECKING:
    from modelopt_cli.tuning.executors import Executor, Pool
    from modelopt_cli.tuning.objective import Objective
    from modelopt_cli.tuning.stoppers import Stopper
    from modelopt_cli.tuning.study.study import Study

_CONCLUDED = {"timeout": "the search's time was up", "converged": "the search had found enough"}
_WAIT = 0.25  # seconds between looks at the stop flag and the clock


def search(
    study: Study,
    objective: Objective,
    executor: Executor,
    *,
    trials: int | None,
    workers: int = 1,
    limits: Limits = Limits(),  # noqa: B008  (frozen)
    stopper: Stopper | None = None,
    scheduler: Scheduler | None = None,
    timeout: float | None = None,
    max_failures: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    converged: Callable[[Sequence[Trial]], str] = lambda trials: "",
    on_change: Callable[[Trial], None] = lambda trial: None,
    sizes: Sequence[int] | None = None,
    complete: bool = False,
    open_ended: bool = False,
    told: int | None = None,
) -> SearchResult:
    """Run trials of `study` until there are `trials` (None: until time or space is up), those under way included.

    Trials that an earlier search, or process, left under way are run first. `stop` is looked at four times a second (in
    this process: between steps); what runs then is ended and left as interrupted, as it is after `timeout` seconds, to
    be run first when the study is searched again. `converged` is asked after each trial that ends, and once at first:
    from a text on, why there is enough, no trial is begun any more. `on_change` is called with a trial after each of
    its changes. `sizes`, `open_ended`, `told`: see SchedulerContext. `complete`: only complete trials may be best, as
    where others have seen fewer folds or samples. Raises SearchError when `max_failures` trials in a row failed, or
    every trial did.
    """
    return search_with(
        study,
        executor.open(objective, workers, limits),
        trials=trials,
        stopper=stopper,
        scheduler=scheduler,
        timeout=timeout,
        max_failures=max_failures,
        stop=stop,
        converged=converged,
        on_change=on_change,
        sizes=sizes,
        complete=complete,
        open_ended=open_ended,
        told=told,
    )


def search_with(
    study: Study,
    pool: Pool,
    *,
    trials: int | None,
    stopper: Stopper | None = None,
    scheduler: Scheduler | None = None,
    timeout: float | None = None,
    max_failures: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    converged: Callable[[Sequence[Trial]], str] = lambda trials: "",
    on_change: Callable[[Trial], None] = lambda trial: None,
    sizes: Sequence[int] | None = None,
    complete: bool = False,
    open_ended: bool = False,
    told: int | None = None,
) -> SearchResult:
    """`search` with the workers of `pool`, which is closed in the end."""
    study.requeue()
    compared = stopper is not None or scheduler is not None
    scheduler = scheduler or SamplerAndStopper(stopper=stopper)
    loop = Loop(study, scheduler, trials, max_failures, on_change, converged, sizes, complete, open_ended, told)
    start = time.monotonic()
    with pool:
        reason = ""
        while not reason:
            loop.decide(pool)
            if not loop.running:
                reason = "converged" if loop.why else "exhausted" if loop.exhausted else "completed"
            elif stop():
                reason = "interrupted"
            elif timeout is not None and time.monotonic() - start > timeout:
                reason = "timeout"
            else:
                for event in loop.ends or pool.wait(_WAIT):
                    loop.take(event, pool)
        peak = pool.peak_bytes
    if reason in _CONCLUDED:
        loop.conclude(_CONCLUDED[reason])
    if reason != "interrupted":
        check_failures(study.trials)
    warnings = remarks(reason, study.trials, loop.restarts, compared)
    return SearchResult(reason, time.monotonic() - start, peak, warnings, loop.why)
