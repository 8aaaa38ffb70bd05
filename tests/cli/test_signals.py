"""Ctrl-C and SIGTERM, sent to a real process: a clean end soon, and a run that can be gone on with."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from tests.support.cli import Cli

# A trial takes 18 steps, three an epoch. Where HOLD is set, what computes holds there until the signal was sent: it
# comes while a trial is under way, however slow or quick the machine is.
SLOW = """\
version: 1
name: slow
data: {type: python, target: "slowly:data", splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: python, target: "slowly:Slow"}
training: {epochs: 6, batch_size: 30, optimizer: {type: adam, lr: 0.01}}
tuning:
  objective: maximize validation.accuracy
  sampler: random
  trials: 5
  workers: 2
  space:
    training.optimizer.lr: {float: [1.0e-3, 0.1], log: true}
"""
SLOWLY = """\
import os, sqlite3, time
import torch


def held():
    # Whether so many trials have been started, or steps made.
    what, _, count = os.environ.get("HOLD", "").partition(" ")
    if what == "steps":
        return os.path.getsize(os.environ["STARTED"] + "-steps") >= int(count)
    if what == "trials":
        log = sqlite3.connect("file:" + os.environ["STUDY"] + "?mode=ro", uri=True)
        begun = log.execute("SELECT count(*) FROM events WHERE kind = 'started'").fetchone()[0]
        log.close()
        return begun >= int(count)
    return False


def data():
    from sklearn.datasets import load_iris

    return load_iris(return_X_y=True)


class Slow(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x):
        if self.training:
            with open(os.environ["STARTED"] + "-steps", "a") as stream:
                stream.write("x")
            while held() and not os.path.exists(os.environ["STARTED"] + "-sent"):
                time.sleep(0.02)
        return self.layer(x)
"""
SCRIPT = """\
import json, os, sys, time
with open(os.environ["STARTED"], "a") as stream:
    stream.write(f"{os.getpid()}\\n")
lr = float(sys.argv[1])
for step in range(1, 5):
    # This one is not asked: it holds for good.
    while "HOLD" in os.environ and os.environ["MODELOPT_TRIAL_DIR"].endswith("/1") and step == 3:
        time.sleep(0.02)
    print(json.dumps({"step": step, "loss": (lr - 0.1) ** 2 + 1 / step}))
"""
SCRIPT_FILE = """\
name: slow
command: {argv: [python, program.py, "{lr}"], parameters: {lr: 0.5}}
tuning:
  workflow: command
  objective: minimize loss
  sampler: random
  trials: 4
  workers: 1
  space: {command.parameters.lr: {float: [0.01, 1.0]}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The files of an experiment; what goes on after an interruption is called in this process, and does not wait."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STARTED", str(tmp_path / "started"))
    Path("slow.yaml").write_text(SLOW)
    Path("slowly.py").write_text(SLOWLY)
    Path("program.py").write_text(SCRIPT)
    Path("script.yaml").write_text(SCRIPT_FILE)
    yield tmp_path
    for process in ours(tmp_path):
        process.kill()


def ours(folder: Path) -> list[psutil.Process]:
    """Processes that were started in `folder`, workers and scripts included."""
    processes = []
    for process in psutil.process_iter():
        try:
            if (
                process.pid != os.getpid()
                and process.environ().get("STARTED") == str(folder / "started")
                and process.status() != "zombie"
            ):
                processes.append(process)
        except psutil.Error:
            continue
    return processes


def start(folder: Path, *arguments: str, hold: str, seconds: float = PATIENCE) -> subprocess.Popen[str]:
    """`seconds`: after which a step that does not end is left; the program's own eight may pass on a busy machine."""
    program = f"from modelopt_cli.cli import main, running; running._HARD_STOP = {seconds}; main.main()"
    study = str(folder / "runs" / "slow" / "1" / "study.sqlite")
    environment = {**os.environ, "HOLD": hold, "STUDY": study, "OMP_NUM_THREADS": "1", "COLUMNS": "300"}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )


def interrupt(process: subprocess.Popen[str], number: int) -> tuple[str, str]:
    """What it printed, once it has ended as it should."""
    process.send_signal(number)
    Path(os.environ["STARTED"] + "-sent").touch()
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number, (out, err)
    assert "Traceback" not in err
    return out, err


def made(folder: Path) -> int:
    """How many steps have been made so far."""
    return len((folder / "started-steps").read_text())


def started(folder: Path) -> int:
    """How many trials have been started so far."""
    path = folder / "started"
    return len(path.read_text().splitlines()) if path.exists() else 0


def assert_nothing_is_left(folder: Path, run: Path) -> None:
    until(lambda: not ours(folder), "that no worker outlives the command")
    assert not [path.name for path in run.rglob("*") if "tmp" in path.name], "no half-written file"
    for path in run.rglob("*.json"):
        json.loads(path.read_text())


def trials(run: Path) -> list[dict[str, Any]]:
    """The table of trials without what a clock decides."""
    rows = json.loads((run / "trials.json").read_text())
    as_text = list(csv.DictReader((run / "trials.csv").read_text().splitlines()))
    assert [int(row["trial"]) for row in as_text] == [row["trial"] for row in rows]
    return [{key: value for key, value in row.items() if "seconds" not in key} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("executor", "number"), [("serial", signal.SIGINT), ("processes", signal.SIGTERM)], ids=["serial", "processes"]
)
def test_an_interrupted_search_ends_as_if_it_had_not_been(cli: Cli, folder: Path, executor: str, number: int) -> None:
    choose = f"tuning.executor={executor}"
    run = folder / "runs" / "slow" / "1"
    process = start(folder, "tune", "slow.yaml", "--set", choose, hold="trials 4")
    # Two trials are begun at a time by two workers, so from the fourth on at least two are finished.
    # (The plan's measurements build models in the process of the command, too.)
    until(lambda: len(states(run)) >= 4, "that the fourth trial is under way", process)
    out, err = interrupt(process, number)
    assert "--resume" in out + err
    assert "runs/slow/1" in out + err
    assert_nothing_is_left(folder, run)
    assert json.loads((run / "report.json").read_text())["status"] == "interrupted"
    before = trials(run)
    finished = [row for row in before if row["state"] == "completed"]
    under_way = [row["trial"] for row in before if row["state"] in {"running", "queued"}]
    assert finished, [(row["state"], row["reason"]) for row in before]
    assert under_way, "the signal came while a trial was under way"

    changed = cli("tune", "slow.yaml", "--set", choose, "--resume", "--set", "training.epochs=3")
    assert changed.code == 2
    assert "training.epochs: 6 -> 3" in changed.err
    assert trials(run) == before, "what is refused changes nothing"

    grown = cli("tune", "slow.yaml", "--set", choose, "--resume", "--set", "tuning.trials=6")
    assert grown.code == 0, grown.err
    after = trials(run)
    assert not (folder / "runs" / "slow" / "2").exists()
    assert len(after) == 6
    assert [row for row in after if row["trial"] in {row["trial"] for row in finished}] == finished
    starts = [number for kind, number in events(run) if kind == "started"]
    for row in finished:
        assert starts.count(row["trial"]) == 1, "what was finished is not run again"
    kinds = [kind for kind, _ in events(run)]
    resumed = [number for kind, number in events(run)[kinds.index("requeued") :] if kind == "started"]
    assert resumed[: len(under_way)] == under_way, "the interrupted trials are run first"

    whole = cli("tune", "slow.yaml", "--set", choose, "--set", "tuning.trials=6", "--out", "whole")
    assert whole.code == 0, whole.err
    assert after == trials(folder / "whole")


def events(run: Path) -> list[tuple[str, int]]:
    """(kind, trial) of every event in the study's log."""
    with closing(sqlite3.connect(f"file:{run / 'study.sqlite'}?mode=ro", uri=True)) as connection:
        return list(connection.execute("SELECT kind, trial FROM events ORDER BY rowid"))


def states(run: Path) -> list[int]:
    """The trials that were started, as another process sees them."""
    try:
        return [number for kind, number in events(run) if kind == "started"]
    except sqlite3.Error:  # not there yet
        return []


@pytest.mark.slow
def test_an_interrupted_script_takes_its_processes_with_it(cli: Cli, folder: Path) -> None:
    run = folder / "runs" / "slow" / "1"
    process = start(folder, "tune", "script.yaml", hold="script")
    until(lambda: started(folder) >= 2, "that the second script is under way", process)
    out, err = interrupt(process, signal.SIGINT)
    assert "--resume" in out + err
    assert_nothing_is_left(folder, run)
    begun = started(folder)
    assert cli("tune", "script.yaml", "--resume").code == 0
    assert started(folder) - begun == 4 - sum(row["state"] == "completed" for row in [*trials(run)][: begun - 1])
    assert cli("tune", "script.yaml", "--out", "whole").code == 0
    assert trials(run) == trials(folder / "whole")


@pytest.mark.slow
def test_an_interrupted_training_goes_on_to_the_same_model(cli: Cli, folder: Path) -> None:
    run, epochs = folder / "runs" / "slow" / "1", ("--set", "training.epochs=40")
    curves: list[list[dict[str, float]]] = [[]]
    for number, resume in ((signal.SIGINT, []), (signal.SIGTERM, ["--resume"])):
        steps = 3 * len(curves[-1])
        (folder / "started-steps").write_text("x" * steps)
        (folder / "started-sent").unlink(missing_ok=True)
        process = start(folder, "train", "slow.yaml", *epochs, *resume, hold=f"steps {steps + 7}")
        until(lambda wanted=steps + 7: made(folder) >= wanted, "that it trains", process)  # type: ignore[misc]
        out, err = interrupt(process, number)
        assert "--resume" in out + err
        assert "runs/slow/1" in out + err
        assert_nothing_is_left(folder, run)
        curve = json.loads((run / "curve.json").read_text())
        assert len(curves[-1]) < len(curve) < 40
        assert curve[: len(curves[-1])] == curves[-1], "no epoch is trained again"
        assert not (run / "model.pt").exists()
        assert json.loads((run / "report.json").read_text())["status"] == "interrupted"
        curves.append(curve)
    changed = cli("train", "slow.yaml", "--resume", "--set", "training.epochs=9")
    assert changed.code == 2
    assert "training.epochs: 40 -> 9" in changed.err
    assert cli("train", "slow.yaml", *epochs, "--resume").code == 0
    assert cli("train", "slow.yaml", *epochs, "--out", "whole").code == 0
    for name in ("curve.csv", "curve.json"):
        assert (run / name).read_bytes() == (folder / "whole" / name).read_bytes()
    assert metrics(run) == metrics(folder / "whole")
    assert not (run / ".state.pt").exists()


@pytest.mark.slow
def test_a_step_that_does_not_end_is_left(folder: Path) -> None:
    process = start(folder, "train", "slow.yaml", hold="steps 7", seconds=0.5)
    steps = folder / "started-steps"
    until(lambda: steps.exists() and made(folder) >= 7, "that it trains", process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert "a step did not end in time; left at once: " in err
    assert "Traceback" not in err
    assert_nothing_is_left(folder, folder / "runs" / "slow" / "1")


def metrics(run: Path) -> dict[str, float]:
    values = json.loads((run / "report.json").read_text())["metrics"]
    return {name: value for name, value in values.items() if "seconds" not in name}
