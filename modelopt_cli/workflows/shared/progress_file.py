"""`.progress.json` in a run's folder: where the run stands, for whoever watches it from another process.

Whole or nothing, at most every two seconds, gone when the run has ended; one that a killed run left says how it stood
then. What it holds is shown, never gone on from.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from modelopt_cli.core.errors import StorageError
from modelopt_cli.results.files import write_json
from modelopt_cli.workflows.shared.context import Progress, SearchStarted, StageBegun
from modelopt_cli.workflows.shared.state_of_work import StateOfWork

Emit = Callable[[Progress], None]
NAME = ".progress.json"
_EVERY = 2.0  # seconds


class Counting(TypedDict):
    """Something that is counted in the stage under way."""

    what: str
    done: int
    of: int | None


class Left(TypedDict):
    """Seconds that the run will still take; `at_most`: a rule may end it before."""

    seconds: float
    at_most: bool


class SearchPlan(TypedDict):
    """What a search set out to do; see SearchStarted."""

    name: str
    planned: int | None
    finished: int
    goals: list[str]
    workers: int
    timeout: float | None
    stops: bool
    shares_steps: bool
    budget: int | None
    from_start: bool
    may_end_before: bool
    refits: bool


class ProgressOfRun(TypedDict):
    """The content of the file. Times are seconds; `began` and `at` (when it was written) since the epoch."""

    workflow: str
    process: int
    began: float
    at: float
    stage: str
    stage_seconds: float
    stages: list[tuple[str, float]]
    step: int | None
    total: int | None
    metrics: dict[str, float]
    counters: list[Counting]
    left: Left | None
    search: SearchPlan | None


@contextmanager
def progress_file(folder: Path, workflow: str, emit: Emit) -> Iterator[Emit]:
    """What takes events for `emit`, and keeps the file on the way; it is removed in the end."""
    state, began = StateOfWork(), time.time()
    path = folder / NAME
    written = -_EVERY

    def take(event: Progress) -> None:
        nonlocal written
        state.take(event)
        emit(event)
        now = time.monotonic()
        if now - written < _EVERY and not isinstance(event, StageBegun | SearchStarted):
            return
        written = now
        content = _content(state, workflow, began)
        with contextlib.suppress(StorageError):  # the run matters more
            write_json(path, content, durable=False)

    try:
        yield take
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone
            path.unlink()


def read_progress(folder: Path) -> ProgressOfRun | None:
    """What the file says; None where there is none that can be read."""
    try:
        content: ProgressOfRun = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and set(ProgressOfRun.__annotations__) <= set(content) else None


def _content(state: StateOfWork, workflow: str, began: float) -> ProgressOfRun:
    left, search = state.left(), state.search
    return {
        "workflow": workflow,
        "process": os.getpid(),
        "began": began,
        "at": time.time(),
        "stage": state.stage,
        "stage_seconds": state.stage_seconds,
        "stages": state.stages,
        "step": state.step,
        "total": state.total,
        "metrics": dict(state.metrics),
        "counters": [{"what": each.what, "done": each.done, "of": each.of} for each in state.counters],
        "left": None if left is None else {"seconds": left.seconds, "at_most": left.at_most},
        "search": None if search is None else _plan(search),
    }


def _plan(search: SearchStarted) -> SearchPlan:
    return {
        "name": search.name,
        "planned": search.planned,
        "finished": search.finished,
        "goals": list(search.goals),
        "workers": search.workers,
        "timeout": search.timeout,
        "stops": search.stops,
        "shares_steps": search.shares_steps,
        "budget": search.budget,
        "from_start": search.from_start,
        "may_end_before": search.may_end_before,
        "refits": search.refits,
    }
