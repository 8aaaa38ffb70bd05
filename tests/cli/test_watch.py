"""`modelopt watch` as a user sees it: runs that go on, have ended, were killed, or never began."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from modelopt_cli.cli.render import watch as render
from modelopt_cli.core.errors import TrialError
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.workflows.shared.context import CourseAhead, EpochEnded, SearchStarted, StageBegun
from modelopt_cli.workflows.shared.progress_file import NAME, progress_file
from modelopt_cli.workflows.watch.watcher import Watcher
from tests.support.cli import QUICK

if TYPE_CHECKING:
    from tests.support.cli import Cli

SPACE = {"training.optimizer.lr": {"float": [0.0, 1.0]}}


def screen(run: Path, width: int = 80) -> str:
    """What the live view shows of the run."""
    console = Console(width=width, force_terminal=True, color_system=None, highlight=False, markup=False)
    with console.capture() as shown:
        console.print(render.view(Watcher(run).look(), console))
    lines = [line.rstrip() for line in shown.get().splitlines()]
    assert all(len(line) <= width for line in lines)
    return "\n".join(lines)


def study_in(directory: RunDirectory) -> Study:
    return Study(
        SPACE, sampler="random", objective="maximize validation.accuracy", path=directory.path / "study.sqlite"
    )


def test_a_search_under_way(tmp_path: Path) -> None:
    with (
        RunDirectory.create(tmp_path, "live") as directory,
        progress_file(directory.path, "tune", lambda event: None) as emit,
        study_in(directory) as study,
    ):
        emit(SearchStarted("live", 20, 0, ("maximize validation.accuracy",), workers=2, stops=True))
        for value in (0.5, 0.75, 0.7):
            trial = study.ask()
            study.tell(trial.number, {"validation.accuracy": value})
        for _ in range(2):
            failed = study.ask()
            study.tell(failed.number, TrialError("memory", "out of \x1b[2Jmemory"))
        running = study.ask()
        study.report_many(running.number, [(3, {"validation.accuracy": 0.65})], 10)
        study.ask()  # reports are committed with what follows them
        text = screen(directory.path)
    first = text.splitlines()[0]
    assert first.startswith("live/1  tune running · ")
    assert "5 of 20 trials" in text
    assert "2 running · 3 completed · 2 failed" in text
    assert "best  validation.accuracy 0.75  trial 1" in text
    assert "0.5 ▁████ 0.75" in text
    assert "step 3 of 10" in text
    assert "failed 2 × out of \\x1b[2Jmemory" in text
    assert "time left unknown" in text


def test_a_training_under_way(tmp_path: Path) -> None:
    with (
        RunDirectory.create(tmp_path, "live") as directory,
        progress_file(directory.path, "train", lambda event: None) as emit,
    ):
        emit(CourseAhead(()))
        emit(EpochEnded(3, 20, {"train.loss": 0.5}, ""))
        emit(StageBegun("training"))
        text = screen(directory.path)
    assert "train running" in text
    assert "3 of 20 steps" in text
    assert "train.loss 0.5" in text
    assert not (directory.path / NAME).exists(), "it goes with the run"


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path, "live") as directory:
        assert "nothing is known of it yet" in screen(directory.path)


def test_a_run_that_was_killed(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path, "live") as directory:
        with progress_file(directory.path, "train", lambda event: None) as emit:
            emit(StageBegun("training"))
            left = (directory.path / NAME).read_text()
        (directory.path / NAME).write_text(left)
        directory.write_experiment({"name": "live"})
    text = screen(directory.path)
    assert "killed" in text.splitlines()[0]
    assert "nobody writes this run any more" in text


@pytest.mark.slow
def test_a_finished_run_is_shown_once(cli: Cli) -> None:
    Path("quick.yaml").write_text(QUICK)
    assert cli("tune", "quick.yaml", "--quiet").code == 0
    run = Path("runs/quick/1")
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    result = cli("watch", "quick")
    assert result.code == 0
    lines = result.out.splitlines()
    assert sum(line.startswith("trial ") for line in lines) == 4
    assert "quick/1: completed" in lines
    assert "the result: modelopt show quick/1" in lines
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before, "no file was touched or added"
    document = json.loads(cli("watch", "quick/1", "--json").out)
    assert document["status"] == "completed"
    assert document["states"]["completed"] == 4
    assert document["best"]["params"]
    assert "completed" in screen(run)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "there is no run 'nothing'"),
        (["run", "80"], "80 is a port, which only --serve takes"),
        (["run", "--serve", "99999"], "the port is 99999"),
        (["run", "--interval", "0"], "--interval is 0"),
        (["run", "--serve", "--json"], "leave out one of them"),
    ],
)
def test_what_cannot_be_watched(cli: Cli, arguments: list[str], said: str) -> None:
    result = cli("watch", *arguments)
    assert result.code == 2
    assert said in result.err
