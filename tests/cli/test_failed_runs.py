"""A run that failed is failed, with its reason, wherever runs are shown."""

from __future__ import annotations

import errno
import fcntl
import json
import tempfile
from pathlib import Path

import pytest

from tests.support.cli import Cli

SCRIPT = """\
version: 1
name: crash
command: {argv: [python, s.py, "{a}"], parameters: {a: 0}}
tuning: {workflow: command, objective: minimize loss, trials: 2, space: {command.parameters.a: {int: [0, 99]}}}
"""


@pytest.mark.slow
def test_a_search_whose_trials_all_failed(cli: Cli) -> None:
    Path("s.py").write_text("raise ValueError('no such luck')\n")
    Path("crash.yaml").write_text(SCRIPT)
    assert cli("tune", "crash.yaml", "-q").code == 4
    report = json.loads(Path("runs/crash/1/report.json").read_text())
    assert (report["status"], report["workflow"]) == ("failed", "tune")
    assert "no such luck" in report["reason"]
    [run] = json.loads(cli("runs", "--json").out)
    assert (run["status"], run["workflow"]) == ("failed", "tune")
    assert run["started"]
    assert run["seconds"] > 0
    assert "no such luck" in run["reason"]
    shown = cli("show", "crash")
    assert shown.code == 0
    assert "failed every trial failed" in shown.out
    assert json.loads(cli("show", "crash", "--json").out)["tables"]["trials"]["rows"]


def test_a_training_that_fails(cli: Cli) -> None:
    Path("m.py").write_text("def build(shapes):\n    raise ValueError('no model')\n")
    Path("own.yaml").write_text(
        "version: 1\ndata: {type: iris}\nmodel: {type: python, target: m:build}\ntraining: {epochs: 1}\n"
    )
    failed = cli("train", "own.yaml", "-q")
    assert failed.code
    report = json.loads(Path("runs/own/1/report.json").read_text())
    assert (report["status"], report["workflow"]) == ("failed", "train")
    assert "no model" in report["reason"]
    assert "no model" in cli("show", "own").out
    assert "failed" in cli("runs").out


@pytest.mark.parametrize("way", ["sys.exit('own end')", "raise KeyboardInterrupt('own end')"])
def test_a_training_that_ends_itself(cli: Cli, way: str) -> None:
    Path("m.py").write_text(f"import sys\ndef build(shapes):\n    {way}\n")
    Path("own.yaml").write_text(
        "version: 1\ndata: {type: iris}\nmodel: {type: python, target: m:build}\ntraining: {epochs: 1}\n"
    )
    assert cli("train", "own.yaml", "-q").code == 1
    report = json.loads(Path("runs/own/1/report.json").read_text())
    assert (report["status"], report["workflow"]) == ("failed", "train")
    assert "own end" in report["reason"]
    shown = cli("show", "own").out
    assert shown.startswith("failed ")
    assert "own end" in shown


@pytest.mark.slow
def test_a_failed_run_is_resumed_and_completes(cli: Cli) -> None:
    Path("s.py").write_text("raise ValueError('no such luck')\n")
    Path("crash.yaml").write_text(SCRIPT)
    assert cli("tune", "crash.yaml", "-q").code == 4
    Path("s.py").write_text("print('{\"loss\": 1.0}')\n")
    assert cli("tune", "crash.yaml", "-q", "--resume", "--set", "tuning.trials=3").code == 0
    [run] = json.loads(cli("runs", "--json").out)
    assert (run["status"], run["reason"]) == ("completed", "")


def test_what_is_refused_before_it_began_leaves_nothing(cli: Cli) -> None:
    Path("e.yaml").write_text("version: 1\ndata: {type: iris}\nmodel: mlp\n")
    assert cli("train", "e.yaml").code == 2
    assert not Path("runs/e/1").exists()


@pytest.mark.parametrize("command", ["train", "tune"])
def test_no_locks_is_exit_6(cli: Cli, quick: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    done = cli(command, quick)
    assert done.code == 6
    assert "cannot be locked (No locks available)" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.ENOLCK])
def test_a_temporary_folder_that_cannot_be_written_is_exit_6(
    cli: Cli, quick: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(number, "cannot", "/tmp/x")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    done = cli("tune", quick, "-q")
    assert done.code == 6
    assert "please report it" not in done.err


def test_clean_refuses_a_name_that_is_no_run(cli: Cli) -> None:
    done = cli("clean", "nope", "--yes")
    assert done.code == 2
    assert "there is no run 'nope'" in done.err
