"""When trials ran: lanes hold no two at once, time between sessions is no work, and a study knows its own."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.study.timeline import LONGEST_PAUSE, Stint, TimedEvent, stints
from modelopt_cli.tuning.trials.trial import State, Trial

DAY = 86_400.0


def trials(*states: State) -> list[Trial]:
    return [Trial(number, {}, 0, state) for number, state in enumerate(states)]


DONE, RUNNING = State.COMPLETED, State.RUNNING


def test_a_trial_runs_from_its_start_to_its_end() -> None:
    events = [(100.0, "queued", 0), (101.0, "started", 0), (103.0, "reported", 0), (105.0, "told", 0)]
    assert stints(events, trials(DONE)) == [Stint(0, 1.0, 5.0, "completed", 1)]


def test_one_that_was_paused_ran_twice_and_one_at_once_has_a_lane_of_its_own() -> None:
    events = [
        (0.0, "started", 0), (1.0, "started", 1), (2.0, "paused", 0), (2.0, "started", 2), (3.0, "told", 1),
        (4.0, "started", 0), (5.0, "told", 2), (6.0, "told", 0),
    ]  # fmt: skip
    assert stints(events, trials(DONE, State.STOPPED, State.FAILED)) == [
        Stint(0, 0.0, 2.0, "paused", 1),
        Stint(1, 1.0, 3.0, "stopped", 2),
        Stint(2, 2.0, 5.0, "failed", 1),
        Stint(0, 4.0, 6.0, "completed", 2),
    ]


def test_a_night_between_two_sessions_is_no_work() -> None:
    events = [
        (0.0, "started", 0), (10.0, "told", 0), (11.0, "started", 1), (20.0, "reported", 1),  # killed
        (DAY, "requeued", 1), (DAY + 1, "started", 1), (DAY + 9, "told", 1),
    ]  # fmt: skip
    assert stints(events, trials(DONE, DONE)) == [
        Stint(0, 0.0, 10.0, "completed", 1),
        Stint(1, 11.0, 20.0, "interrupted", 1),
        Stint(1, 20.0 + LONGEST_PAUSE, 28.0 + LONGEST_PAUSE, "completed", 1),
    ]


def test_several_that_were_cut_off_end_with_what_was_last_heard() -> None:
    events = [
        (0.0, "started", 0), (1.0, "started", 1), (4.0, "reported", 0),
        (DAY, "requeued", 0), (DAY + 2, "suspended", 1), (DAY + 3, "started", 0), (DAY + 5, "told", 0),
    ]  # fmt: skip
    assert [(run.trial, run.end - run.start) for run in stints(events, trials(DONE, State.PAUSED))] == [
        (0, 4.0),
        (1, 3.0),
        (0, 2.0),
    ]


def test_what_still_runs_is_counted_up_to_the_last_event() -> None:
    events = [(0.0, "started", 0), (1.0, "started", 1), (7.0, "reported", 1)]
    assert [(run.state, run.end) for run in stints(events, trials(RUNNING, RUNNING))] == [("running", 7.0)] * 2


def test_a_clock_that_was_set_back_gives_no_negative_time() -> None:
    events = [(50.0, "started", 0), (20.0, "told", 0), (60.0, "started", 1), (61.0, "told", 1)]
    assert stints(events, trials(DONE, DONE)) == [
        Stint(0, 0.0, 0.0, "completed", 1),
        Stint(1, 10.0, 11.0, "completed", 1),
    ]


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.01, 50)), max_size=12))
def test_no_two_that_ran_at_once_share_a_lane_and_no_lane_too_many(spans: list[tuple[float, float]]) -> None:
    events: list[TimedEvent] = [(0.0, "queued", 0)]
    events += [(start, "started", number) for number, (start, _) in enumerate(spans)]
    events += [(start + length, "told", number) for number, (start, length) in enumerate(spans)]
    runs = stints(sorted(events), trials(*[DONE] * len(spans)))
    assert len(runs) == len(spans)
    for a in runs:
        assert all(b.lane != a.lane or b.end <= a.start or a.end <= b.start for b in runs if b is not a)
    most = max((sum(b.start <= a.start < b.end for b in runs) for a in runs), default=0)
    assert max((run.lane for run in runs), default=0) == most


def test_a_study_knows_when_its_trials_ran_also_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    with Study({"x": {"float": [0, 1]}}, "random", path=path) as study:
        for _ in range(3):
            study.tell(study.ask(), 1.0)
        assert [(run.trial, run.lane, run.state) for run in study.stints] == [(n, 1, "completed") for n in range(3)]
        times = [time for run in study.stints for time in (run.start, run.end)]
        assert times == sorted(times)
        assert Study.read_stints(path, study.trials[:2]) == study.stints[:2]
    with sqlite3.connect(path) as connection:
        [(first, last)] = connection.execute("SELECT min(time), max(time) FROM events")
    assert study.trials[2].state is DONE
    assert times[-1] == last - first
