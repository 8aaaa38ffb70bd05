"""What a user's code raises is a failure with its name and place, whatever it raises; Ctrl-C still is Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from tests.support.cli import Cli

FILE = """\
version: 1
name: own
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: python, target: "mine:Net", arguments: {what: none}}
training: {epochs: 2, batch_size: 64}
tuning:
  objective: maximize validation.accuracy
  sampler: grid
  workers: 1
  executor: EXECUTOR
  max_failures: null
  space: {model.arguments.what: [NAMES]}
"""
MINE = """\
import torch


class Halt(BaseException):
    pass


class Net(torch.nn.Module):
    def __init__(self, what="none"):
        super().__init__()
        self.layer, self.what = torch.nn.Linear(4, 3), what

    def forward(self, x):
        if self.what != "none" and self.training:
            kinds = {"halt": Halt, "keyboard": KeyboardInterrupt, "generator": GeneratorExit, "exit": SystemExit}
            raise kinds[self.what]("as it likes")
        return self.layer(x)
"""
RAISED = {"halt": "Halt", "keyboard": "KeyboardInterrupt", "generator": "GeneratorExit", "exit": "SystemExit"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_in_a_trial_it_is_that_trials_failure(executor: str, folder: Path, cli: Cli) -> None:
    text = FILE.replace("EXECUTOR", executor).replace("NAMES", ", ".join([*RAISED, "none"]))
    (folder / "own.yaml").write_text(text)
    assert cli("tune", "own.yaml", "--out", "run", "--quiet").code == 0
    rows = {row["model.arguments.what"]: row for row in json.loads((folder / "run" / "trials.json").read_text())}
    assert rows["none"]["state"] == "completed"
    for name, raised in RAISED.items():
        assert rows[name]["state"] == "failed"
        assert rows[name]["reason"] == f"{raised}: as it likes (mine.py:16)"


@pytest.mark.parametrize("name", RAISED)
def test_in_a_single_run_the_run_has_failed(name: str, folder: Path, cli: Cli) -> None:
    (folder / "own.yaml").write_text(FILE.replace("EXECUTOR", "serial").replace("NAMES", name))
    result = cli("train", "own.yaml", "--out", "run", "--set", f"model.arguments.what={name}")
    assert result.code == 1
    assert f"the run failed: {RAISED[name]}: as it likes (mine.py:16)" in result.err
    assert "Traceback" not in result.err


def test_ctrl_c_in_a_serial_search_of_a_program_is_raised() -> None:
    """Python's own handler raises KeyboardInterrupt in the middle of a trial: no failure of that trial."""
    from modelopt_cli.tuning.executors.serial import Serial
    from modelopt_cli.tuning.objective import Objective, Run
    from modelopt_cli.tuning.search.search import Search
    from modelopt_cli.tuning.study.study import Study
    from modelopt_cli.tuning.trials.trial import State

    class Interrupted(Run):
        def advance(self, until: int) -> list[tuple[int, Mapping[str, float]]]:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(PATIENCE)
            return []

        def metrics(self) -> dict[str, float]:
            return {}

    class Interrupting(Objective):
        def open(self, params: object, seed: int, state: object = None) -> Run:
            return Interrupted()

    study = Study({"x": {"float": [0, 1]}}, "random")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Search(study, Serial().open(Interrupting()), trials=1).run()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert study.trials[0].state is State.RUNNING
