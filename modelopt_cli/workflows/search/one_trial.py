"""One trial of a search's run, looked at closely, also while it runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from modelopt_cli.core.errors import UsageError
from modelopt_cli.results.run_directory import locked
from modelopt_cli.results.trial_files import TrialFiles, end_of_log
from modelopt_cli.tuning.analysis.replication import best_of, posterior
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelopt_cli.tuning.trials.trial import Trial

_LINES = 40  # of a log's end


class CurvePoint(TypedDict):
    """What a trial reported after a step."""

    step: int
    metrics: dict[str, float]


class TrialLog(TypedDict):
    """What a script wrote: the file, and its last lines."""

    path: str
    lines: list[str]


class TrialDetails(TypedDict):
    """All that a run knows of one trial; plain values."""

    run: str
    trial: int
    state: str  # a trial's; or interrupted, where nobody computes what was being computed
    failure: str  # nan | memory | crash | timeout | error; empty: it has not failed
    reason: str  # why it failed or was stopped
    best: bool
    origin: str
    seed: int
    parent: int | None
    seconds: float | None  # None: not known, as of one that is paused
    step: int
    total: int | None
    objective: list[str]
    params: dict[str, Any]
    metrics: dict[str, float]  # those of its last report, while it runs
    curve: list[CurvePoint]
    trial_dir: str | None
    log: TrialLog | None


def trial_details(run: Path, number: int) -> TrialDetails:
    """The trial of that number. Raises UsageError where the run has none such."""
    store = run / "study.sqlite"
    if not store.exists():
        raise UsageError(f"{run} is no search, so it has no trials; leave out --trial")
    trials, header = Study.read(store)
    if not 0 <= number < len(trials):
        raise UsageError(f"--trial {number}: {run} has no such trial; it has {_which(trials)}")
    trial = trials[number]
    best = best_of(trials, posterior(Space.from_spec(header["space"]), trials) if header.get("repeats") else None)
    files = TrialFiles(run)
    log, folder = files.log(number), files.trial_dir(number)
    written = None if log is None else end_of_log(log, _LINES)
    return TrialDetails(
        run=str(run),
        trial=number,
        state=str(trial.state) if trial.state is not State.RUNNING or locked(run) else "interrupted",
        failure=trial.failure,
        reason=trial.reason,
        best=best is not None and best.number == number,
        origin=trial.origin,
        seed=trial.seed,
        parent=trial.parent,
        seconds=_seconds(run, trial),
        step=trial.step,
        total=trial.total,
        objective=list(header.get("objective", [])),
        params=dict(trial.params),
        metrics=_metrics(trial),
        curve=[CurvePoint(step=point.step, metrics=dict(point.metrics)) for point in trial.curve],
        trial_dir=str(folder) if folder.is_dir() else None,
        log=None if written is None else TrialLog(path=str(log), lines=written),
    )


def _which(trials: Sequence[Trial]) -> str:
    return "none yet" if not trials else "trial 0 alone" if len(trials) == 1 else f"the trials 0 to {len(trials) - 1}"


def _metrics(trial: Trial) -> dict[str, float]:
    metrics: Mapping[str, float] = trial.metrics or (trial.curve[-1].metrics if trial.curve else {})
    return dict(metrics)


def _seconds(run: Path, trial: Trial) -> float | None:
    """How long it computed; of one that runs, since it was last begun."""
    if trial.state.finished:
        return trial.seconds
    runs = trial.state is State.RUNNING and locked(run)
    begun = Study.begun(run / "study.sqlite", trial.number) if runs else None
    return None if begun is None else max(0.0, time.time() - begun)
