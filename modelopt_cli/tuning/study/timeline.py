"""When each trial of a study ran, and beside which others: from the times at which its log's events were written.

A search that is resumed goes on in another session, perhaps days later, and the log does not say when the first one
ended. A trial that was cut off therefore ends with the last event before it was taken back, and where no trial ran for
longer than a minute, the time in between is left out: what comes after moves up to that minute. (Between two trials of
one session lie a sampler's seconds, no more.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from modelopt_cli.tuning.trials.trial import Trial

LONGEST_PAUSE = 60.0
"""Seconds without a running trial that are left in; more is the time between two sessions."""

INTERRUPTED = "interrupted"
_CUT_OFF = ("requeued", "suspended")

TimedEvent = tuple[float, str, int]
"""(seconds since the epoch, kind, number of the trial): an event of the log without its payload."""


@dataclass(frozen=True, slots=True)
class Stint:
    """A stretch of time in which a trial ran without a break.

    lane: from 1; trials that ran at once have different ones. start, end: seconds since the first event of the study,
    without the time between sessions. state: what ended it, `paused`, `interrupted`, or the state in which the trial
    ended; `running` for one that the log does not end, which is counted up to the last event.
    """

    trial: int
    start: float
    end: float
    state: str
    lane: int = 0


def stints(events: Iterable[TimedEvent], trials: Sequence[Trial]) -> list[Stint]:
    """Those of all trials, by their start. Events of trials that are not among `trials` are left out."""
    runs = _without_gaps(_runs(events, trials))
    return _in_lanes(runs)


def _runs(events: Iterable[TimedEvent], trials: Sequence[Trial]) -> list[Stint]:
    """In seconds since the first event, in order of start."""
    begun: dict[int, float] = {}  # of trials that run -> since when
    runs: list[Stint] = []
    first = last = 0.0
    for index, (time, kind, number) in enumerate(events):
        first = time if index == 0 else first
        now = max(time - first, last)  # a clock may be set back
        if 0 <= number < len(trials):
            if number in begun and kind in (*_CUT_OFF, "paused", "told"):
                end, state = now, str(trials[number].state) if kind == "told" else kind
                if kind in _CUT_OFF:
                    end, state = last, INTERRUPTED
                runs.append(Stint(number, begun.pop(number), end, state))
            if kind == "started":
                begun[number] = now
        if kind not in _CUT_OFF:  # those begin a session: nothing ran until then
            last = now
    runs += [Stint(number, start, last, "running") for number, start in begun.items()]
    return sorted(runs, key=lambda run: (run.start, run.trial))


def _without_gaps(runs: Sequence[Stint]) -> list[Stint]:
    """Moved to earlier times by what is too long without a running trial. `runs`: by their start."""
    moved: list[Stint] = []
    over, left_out = 0.0, 0.0  # when all trials so far had ended; seconds left out so far
    for run in runs:
        left_out += max(0.0, run.start - over - LONGEST_PAUSE)
        moved.append(replace(run, start=run.start - left_out, end=run.end - left_out))
        over = max(over, run.end)
    return moved


def _in_lanes(runs: Sequence[Stint]) -> list[Stint]:
    """Each in the first lane that is free at its start. `runs`: by their start."""
    free: list[float] = []  # from when on each lane is
    placed: list[Stint] = []
    for run in runs:
        lane = next((lane for lane, since in enumerate(free) if since <= run.start), len(free))
        free[lane : lane + 1] = [run.end]
        placed.append(replace(run, lane=lane + 1))
    return placed
