"""Replay: every suggestion and every decision of a search comes out of its log again, and a changed log is told."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.tuning.executors import Executor
from modelopt_cli.tuning.executors.processes import Processes
from modelopt_cli.tuning.executors.serial import Serial
from modelopt_cli.tuning.schedulers import Decision, Pause, Resume, Scheduler, SchedulerContext, Start
from modelopt_cli.tuning.schedulers._sampler_and_stopper import SamplerAndStopper
from modelopt_cli.tuning.search.search import Search
from modelopt_cli.tuning.stoppers.asha import Asha
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import Trial
from tests.support.search_objectives import CurveObjective
from tests.support.study_logs import logged, replayed

SPACE = {"x": {"float": [0, 1]}, "y": {"choice": [{"type": "a"}, {"type": "b", "z": {"int": [1, 5]}}]}}
ASHA = SamplerAndStopper(stopper=Asha(factor=2))


class InTurns(Scheduler):
    """Runs each trial to step 1, then pauses it while there are fewer than three paused; then lets it finish."""

    def next(self, context: SchedulerContext) -> list[Decision]:
        decisions: list[Decision] = []
        slots, paused = min(context.slots, context.left), [trial.number for trial in context.paused]
        for number in context.waiting:
            decisions.append(Pause(number) if len(paused) < 3 else Resume(number))
        free = slots + sum(isinstance(decision, Pause) for decision in decisions)
        back = paused[:free] if len(paused) >= 2 else []
        return [*decisions, *(Resume(number) for number in back), *(Start(1) for _ in range(slots - len(back)))]


def searched(
    path: Path, executor: Executor, scheduler: Scheduler = ASHA, *, sampler: str = "bayesian", trials: int = 12
) -> tuple[Trial, ...]:
    with Study(SPACE, sampler, seed=2, path=path) as study:
        Search(study, executor.open(CurveObjective(6), workers=2), trials=trials, scheduler=scheduler).run()
        return study.trials


@pytest.mark.slow
@pytest.mark.parametrize("executor", [Serial(), Processes()], ids=["serial", "processes"])
def test_a_search_with_a_stopper_comes_out_again(tmp_path: Path, executor: Executor) -> None:
    trials = searched(tmp_path / "s", executor)
    again = replayed(tmp_path / "s", ASHA)
    assert again.first is None
    assert again.agreed == again.asked
    assert again.asked["suggestions"] == 12
    assert again.asked["endings"] == sum(trial.state == "stopped" for trial in trials) > 0
    steps = sum(trial.curve[-1].step for trial in trials)
    assert again.asked["decisions"] >= steps, "the stopper was asked after every step"


def test_a_scheduler_that_pauses_comes_out_again(tmp_path: Path) -> None:
    searched(tmp_path / "s", Serial(), InTurns(), sampler="random", trials=6)
    kinds = [kind for kind, _, _ in logged(tmp_path / "s")[0]]
    assert "paused" in kinds
    again = replayed(tmp_path / "s", InTurns())
    assert again.first is None
    assert again.asked["decisions"] > kinds.count("paused")


@pytest.mark.slow
def test_an_interrupted_and_resumed_search_comes_out_again(tmp_path: Path) -> None:
    for limit in (4, 7, 99):
        with Study(SPACE, seed=2, path=tmp_path / "s") as study:
            stop = lambda: len(study.trials) >= limit  # noqa: B023, E731
            Search(study, Processes().open(CurveObjective(6), workers=2), trials=12, scheduler=ASHA, stop=stop).run()
    events, _ = logged(tmp_path / "s")
    assert any(kind == "requeued" for kind, _, _ in events)
    again = replayed(tmp_path / "s", ASHA)
    assert again.first is None
    assert again.asked["suggestions"] == 12


def test_another_stopper_decides_otherwise(tmp_path: Path) -> None:
    searched(tmp_path / "s", Serial())
    again = replayed(tmp_path / "s", SamplerAndStopper(stopper=Asha(factor=3)))
    assert again.agreed["suggestions"] == again.asked["suggestions"]
    assert again.agreed["decisions"] < again.asked["decisions"]
    assert again.first is not None
    assert again.first.what.startswith("decision 1 with trial")


def change(path: Path, kind: str, index: int, edit: Any) -> int:
    """Edit the payload of event `index` of a kind; its position in the log."""
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = connection.execute("SELECT sequence, payload FROM events WHERE kind = ?", [kind]).fetchall()
        sequence, payload = rows[index]
        content = json.loads(payload)
        edit(content)
        connection.execute("UPDATE events SET payload = ? WHERE sequence = ?", [json.dumps(content), sequence])
        return int(sequence)


def next_bit(content: dict[str, Any]) -> None:
    import math

    content["params"]["x"] = math.nextafter(content["params"]["x"], 2.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "index", "edit", "what"),
    [
        ("queued", 9, next_bit, "the suggestion of trial 9"),
        ("queued", 3, lambda content: content.update(seed=1), "the suggestion of trial 3"),
        ("decided", 8, lambda content: content["decisions"].__setitem__(0, ["stop", 3, "tired"]), "decision 1 with"),
        ("decided", 8, lambda content: content["decisions"].append(["start", 1]), "decision 2 with"),
    ],
)
def test_a_changed_log_is_told_with_its_place(tmp_path: Path, kind: str, index: int, edit: Any, what: str) -> None:
    searched(tmp_path / "s", Serial())
    event = change(tmp_path / "s", kind, index, edit)
    again = replayed(tmp_path / "s", ASHA)
    assert again.first is not None
    assert again.first.event == event
    assert again.first.what.startswith(what)
    assert again.first.logged != again.first.now


def test_a_changed_reason_is_told(tmp_path: Path) -> None:
    searched(tmp_path / "s", Serial())
    events, _ = logged(tmp_path / "s")
    index = [payload["state"] for kind, _, payload in events if kind == "told"].index("stopped")
    event = change(tmp_path / "s", "told", index, lambda content: content.update(reason="bored"))
    again = replayed(tmp_path / "s", ASHA)
    assert again.first is not None
    assert (again.first.event, again.first.logged) == (event, "bored")
    assert again.agreed["endings"] == again.asked["endings"] - 1


def test_a_changed_loss_changes_what_follows(tmp_path: Path) -> None:
    searched(tmp_path / "s", Serial(), SamplerAndStopper())
    event = change(tmp_path / "s", "told", 2, lambda content: content.update(losses=[-9.0]))
    again = replayed(tmp_path / "s", SamplerAndStopper())
    assert again.first is not None
    assert again.first.event > event
    assert 8 <= again.agreed["suggestions"] < 12, "the first eight are a design that no loss changes"


def test_an_event_that_makes_no_sense_is_told_with_its_place(tmp_path: Path) -> None:
    searched(tmp_path / "s", Serial(), trials=4)
    event = change(tmp_path / "s", "queued", 2, lambda content: content["params"].update(x=7.0))
    with pytest.raises(ValueError, match=f"event {event}, 'queued' of trial 2: x = 7.0 is not in the space"):
        replayed(tmp_path / "s", ASHA)


def test_a_study_by_hand_has_suggestions_alone(tmp_path: Path) -> None:
    with Study(SPACE, "tpe", path=tmp_path / "s", stopper="asha", initial=[{"x": 0.5, "y": {"type": "a"}}]) as study:
        for _ in range(12):
            trial = study.ask()
            study.report(trial, 1, trial.params["x"])
            study.tell(trial, trial.params["x"], stopped=study.should_stop(trial) or "")
    again = replayed(tmp_path / "s", ASHA)
    assert again.first is None
    assert dict(again.asked) == {"suggestions": 11, "decisions": 0, "endings": 0}
