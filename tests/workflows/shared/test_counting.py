"""What is counted deep inside comes up as events; a step that goes on after the user asked for an end is given up."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.core.work import GivenUp, counted, tell
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.tuning.objective import Run, StepReport
from modelopt_cli.workflows.shared.context import Context, Counted, Progress, StopFlag
from modelopt_cli.workflows.shared.counting import counting
from modelopt_cli.workflows.shared.model_workflow import advance
from modelopt_cli.workflows.shared.state_of_work import StateOfWork


def events_of(items: int) -> list[Progress]:
    events: list[Progress] = []
    with counting(Context(emit=events.append)):
        assert list(counted(range(items), "files")) == list(range(items))
    return events


def test_nobody_need_listen() -> None:
    assert list(counted("ab", "letters")) == ["a", "b"]
    tell("letters", 1, 2)


def test_the_beginning_and_the_end_are_told() -> None:
    events = events_of(1000)
    assert events[0] == Counted("files", 0, 1000)
    assert events[-1] == Counted("files", 1000, 1000)
    assert len(events) < 500, "and between them only now and then"


def test_work_is_given_up_once_patience_is_over() -> None:
    stop = StopFlag()
    with counting(Context(stop=stop), patience=3600.0):
        stop.set(signal.SIGTERM)
        tell("files", 1, 2)
    with counting(Context(stop=stop), patience=0.0), pytest.raises(GivenUp):
        tell("files", 1, 2)


def test_given_up_is_no_failure_of_user_code() -> None:
    assert not issubclass(GivenUp, Exception), "or code that catches all errors would go on"


class Endless(Run):
    """Its third step goes on until it is given up."""

    total = 10

    def __init__(self, stop: StopFlag) -> None:
        self._stop = stop

    def advance(self, until: int) -> list[StepReport]:
        if self.step == 2:
            self._stop.set(signal.SIGTERM)
            while True:
                tell("layers", 1, 9)
        self.step += 1
        return [(self.step, {"loss": 1.0 / self.step})]

    def metrics(self) -> Mapping[str, float]:
        return {}

    def state(self) -> Any:
        return {"step": self.step}


def test_what_was_saved_before_is_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelopt_cli.workflows.shared.run_files.SAVE_EVERY", -1.0)  # after each step
    stop, curve = StopFlag(), list[tuple[int, dict[str, float]]]()
    with RunDirectory.create(tmp_path, "endless") as directory:
        context = Context(directory=directory, stop=stop)
        with counting(context, patience=0.0):
            advance(Endless(stop), curve, context)
        assert [step for step, _ in curve] == [1, 2]
        assert stop.kept == "all up to step 2 of 10"
        assert (directory.path / ".state.pt").exists()


def test_nothing_is_promised_where_nothing_was_saved() -> None:
    stop = StopFlag()
    run = Endless(stop)
    run.step = 2
    with counting(Context(stop=stop), patience=0.0):
        advance(run, [], Context(stop=stop))
    assert stop.kept == ""


# Where a run stands


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_counted_within_another_is_below_it() -> None:
    clock = Clock()
    state = StateOfWork(clock)
    for what, done, of in (("layers", 0, 4), ("cuts", 0, 8), ("cuts", 5, 8), ("layers", 2, 4)):
        state.take(Counted(what, done, of))
        clock.now += 5.0
    assert [(each.what, each.done) for each in state.counters] == [("layers", 2)]
    assert state.counted_left() == pytest.approx(20.0)
    state.take(Counted("layers", 4, 4))
    assert state.counters == []
    assert state.counted_left() is None
