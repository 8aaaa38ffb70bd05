"""Where a run stands, seen from another process: read-only, from its lock, store, progress file and report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modelopt_cli.core.errors import InputError
from modelopt_cli.results.run_directory import locked, workflow_of
from modelopt_cli.results.saved_run import has_report, read_run
from modelopt_cli.tuning.analysis.replication import best_of
from modelopt_cli.tuning.study.following import StudyFollower
from modelopt_cli.tuning.trials.trial import State, Trial
from modelopt_cli.workflows.shared.progress_file import NAME, ProgressOfRun, read_progress
from modelopt_cli.workflows.shared.time_left import Estimate

if TYPE_CHECKING:
    from modelopt_cli.results.report import Report

STORE = "study.sqlite"
Status = Literal["running", "completed", "interrupted", "failed", "killed"]
"""`killed`: nobody writes it any more, and it never came to its end."""


@dataclass(frozen=True)
class Snapshot:
    """A run as it was at one look."""

    path: Path
    status: Status
    workflow: str
    reason: str  # why it failed
    progress: ProgressOfRun | None  # of a run that is under way, or was killed
    report: Report | None  # of one that has ended
    trials: tuple[Trial, ...]
    ends: tuple[int, ...]  # numbers of the trials that have ended, in that order
    goals: tuple[str, ...]
    seconds: float | None  # since it began; None: unknown
    silent: float | None  # seconds since anything was written of it

    @property
    def name(self) -> str:
        """As `modelopt runs` has it: name/number."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def planned(self) -> int | None:
        """Trials that the search will have; None: unknown, or open."""
        search = self.progress["search"] if self.progress is not None else None
        return None if search is None else search["planned"]

    @property
    def searching(self) -> bool:
        """Whether trials are what it is busy with, and not what comes before or after them."""
        return self.progress is None or self.progress["search"] is not None

    @property
    def left(self) -> Estimate | None:
        """How long it will still take, by the run's own estimate."""
        left = None if self.progress is None else self.progress["left"]
        if left is None or self.progress is None or self.status != "running":
            return None
        passed = max(0.0, time.time() - self.progress["at"])
        return Estimate(max(0.0, left["seconds"] - passed), left["at_most"])


class Watcher:
    """Looks at the run in `path`. Raises InputError for a folder that holds none."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._follower = StudyFollower(self.path / STORE)
        self._started = time.time()

    def look(self) -> Snapshot:
        """The run as it is now. Raises InputError where the folder is gone, StorageError for a damaged store."""
        if not self.path.is_dir():
            raise InputError(f"{self.path} is there no more; it was removed or renamed")
        written = locked(self.path)
        progress = read_progress(self.path)
        report = read_run(self.path) if not written and has_report(self.path) else None
        self._follower.look(written=written)
        header: Mapping[str, Any] = self._follower.header
        goals = tuple(header.get("objective", ()))
        if progress is not None and progress["search"] is not None:
            goals = tuple(progress["search"]["goals"])
        return Snapshot(
            path=self.path,
            status=_status(self.path, written, report),
            workflow=progress["workflow"] if progress is not None else workflow_of(self.path),
            reason="" if report is None else report.reason,
            progress=progress,
            report=report,
            trials=tuple(self._follower.trials),
            ends=tuple(self._follower.ends),
            goals=goals,
            seconds=self._seconds(written, progress, report),
            silent=self._silent(progress),
        )

    def _seconds(self, written: bool, progress: ProgressOfRun | None, report: Report | None) -> float | None:
        if report is not None and not written:
            return report.seconds
        now = time.time() if written else (self._follower.last or (progress or {"at": self._started})["at"])
        if progress is not None:
            return max(0.0, now - progress["began"])
        return None if self._follower.began is None else max(0.0, now - self._follower.began)

    def _silent(self, progress: ProgressOfRun | None) -> float | None:
        times = [self._follower.last, None if progress is None else progress["at"]]
        known = [each for each in times if each is not None]
        return max(0.0, time.time() - max(known)) if known else None


def _status(path: Path, written: bool, report: Report | None) -> Status:
    if written:
        return "running"
    if report is None or (path / NAME).exists():  # a run that ends takes its progress file with it
        return "killed"
    return report.status


def best_so_far(snapshot: Snapshot) -> list[tuple[Trial, Trial | None]]:
    """The trials that have ended, in that order, each with the best one of those until then."""
    pairs: list[tuple[Trial, Trial | None]] = []
    best: Trial | None = None
    for number in snapshot.ends:
        trial = snapshot.trials[number]
        if trial.state.finished:
            best = best_of([trial] if best is None else [best, trial], None)
            pairs.append((trial, best))
    return pairs


def as_json(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot as plain values, for programs."""
    ended = best_so_far(snapshot)
    best = ended[-1][1] if ended else None
    progress, left = snapshot.progress, snapshot.left
    failures: dict[str, int] = {}
    for trial in snapshot.trials:
        if trial.state is State.FAILED:
            failures[trial.reason] = failures.get(trial.reason, 0) + 1
    return {
        "run": snapshot.name,
        "path": str(snapshot.path),
        "status": snapshot.status,
        "reason": snapshot.reason,
        "workflow": snapshot.workflow,
        "seconds": snapshot.seconds,
        "left_seconds": None if left is None else left.seconds,
        "left_at_most": None if left is None else left.at_most,
        "stage": None if progress is None else progress["stage"],
        "counters": [] if progress is None else progress["counters"],
        "step": None if progress is None else progress["step"],
        "total": None if progress is None else progress["total"],
        "metrics": dict(progress["metrics"]) if progress is not None else _metrics(snapshot),
        "planned": snapshot.planned,
        "objective": list(snapshot.goals),
        "states": {str(state): sum(trial.state is state for trial in snapshot.trials) for state in State},
        "best": None if best is None else _trial(best),
        "running": [_trial(trial) for trial in snapshot.trials if trial.state is State.RUNNING],
        "failures": failures,
    }


def _metrics(snapshot: Snapshot) -> dict[str, float]:
    return {} if snapshot.report is None else dict(snapshot.report.metrics)


def _trial(trial: Trial) -> dict[str, Any]:
    last = trial.curve[-1].metrics if trial.curve else {}
    return {
        "number": trial.number,
        "state": str(trial.state),
        "step": trial.step,
        "total": trial.total,
        "metrics": dict(trial.metrics or last),
        "params": dict(trial.params),
    }


def wait_for(path: Path, seconds: float) -> None:
    """Sleep, but no longer than the run is written by much: its end is seen within a quarter of a second."""
    deadline = time.monotonic() + seconds
    was = locked(path)
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(0.25, left))
        with contextlib.suppress(OSError):
            if was and not locked(path):
                return
