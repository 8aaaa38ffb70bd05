"""Trials that crash, hang or are not worth going on with, and text that a spreadsheet would run, through the CLI."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modelopt_cli.tuning.executors import _worker_process
from modelopt_cli.workflows.search import estimate
from tests.support.waiting import TurnedClock

if TYPE_CHECKING:
    from tests.support.cli import Cli, Result

MISBEHAVING = """\
import os, signal, time
import torch


class Net(torch.nn.Module):
    def __init__(self, act):
        super().__init__()
        self.act, self.layer = act, torch.nn.Linear(4, 3)

    def forward(self, x):
        if self.training and self.act == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.training and self.act == "hang":
            time.sleep(3000)
        if self.training and self.act == "raise":
            raise ValueError("=1+2 is no answer")
        return self.layer(x)
"""
EXPERIMENT = """\
name: acts
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: python, target: "misbehaving:Net", arguments: {act: run}}
training: {epochs: 2, batch_size: 32, optimizer: {type: adam, lr: 0.01}}
tuning:
  objective: maximize validation.accuracy
  sampler: grid
  executor: processes
  workers: 2
  trial_timeout: 240
  space: {model.arguments.act: [run, kill, hang, raise]}
"""
# Knows nothing of modelopt: it prints what it would print for a person.
SCRIPT = """\
import json, sys, time
lr = float(sys.argv[1])
print("learning with", lr)
for step in range(1, 21):
    print(json.dumps({"step": step, "loss": lr + 1 / step}), flush=True)
    time.sleep(0.05)
print("done")
"""
COMMAND = """\
name: script
command: {argv: [python, train.py, "{lr}"], parameters: {lr: 0.1}}
tuning:
  workflow: command
  objective: minimize loss
  sampler: grid
  executor: serial
  workers: 1
  stopper: {type: median, startup_trials: 2, warmup_steps: 1}
  space: {command.parameters.lr: [0.1, 0.2, 9.0, 8.0]}
"""


def rows_of(result: Result) -> list[dict[str, Any]]:
    table = json.loads(result.out)["tables"]["trials"]
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def ended_trials() -> int:
    try:
        with closing(sqlite3.connect("file:runs/acts/1/study.sqlite?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM events WHERE kind = 'told'").fetchone()[0])
    except sqlite3.Error:  # not there yet
        return 0


@pytest.mark.slow
def test_a_crash_a_hang_and_an_error_cost_one_trial_each(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of the one that hangs is up when the others have ended."""
    monkeypatch.setattr(_worker_process, "time", TurnedClock(lambda: ended_trials() == 3))
    monkeypatch.setattr(estimate, "_PATIENCE", 1.0)  # of the plan, with each setting that it tries out
    Path("misbehaving.py").write_text(MISBEHAVING)
    Path("acts.yaml").write_text(EXPERIMENT)
    result = cli("tune", "acts.yaml", "--json")
    assert result.code == 0, result.err
    by_activation = {row["model.arguments.act"]: row for row in rows_of(result)}
    assert {act: row["state"] for act, row in by_activation.items()} == {
        "run": "completed",
        "kill": "failed",
        "hang": "failed",
        "raise": "failed",
    }
    assert "SIGKILL" in by_activation["kill"]["reason"]
    assert "trial_timeout (240 s)" in by_activation["hang"]["reason"]
    assert "=1+2 is no answer" in by_activation["raise"]["reason"]
    assert any("3 of 4 trials failed" in warning for warning in json.loads(result.out)["warnings"])
    assert json.loads(result.out)["best"]["params"] == {"model.arguments.act": "run"}
    again = cli("tune", "acts.yaml", "--resume", "--json")
    assert rows_of(again) == rows_of(result), "a failed trial is finished: it is not run again"


def test_a_median_stopper_ends_a_script_that_knows_nothing_of_it(cli: Cli) -> None:
    Path("train.py").write_text(SCRIPT)
    Path("script.yaml").write_text(COMMAND)
    result = cli("tune", "script.yaml", "--json")
    assert result.code == 0, result.err
    rows = rows_of(result)
    assert [row["state"] for row in rows] == ["completed", "completed", "stopped", "stopped"]
    assert [row["steps"] for row in rows[:2]] == [20, 20]
    assert all(row["steps"] < 10 for row in rows[2:])
    assert all("median" in row["reason"] for row in rows[2:])
    assert rows[0]["loss"] == pytest.approx(0.15)
    assert json.loads(result.out)["best"]["number"] == 0


def test_text_that_a_spreadsheet_would_run_is_neutralised_and_numbers_are_not(cli: Cli) -> None:
    texts = ["=1+2", "+1", "-2", "@SUM(A1)", "plain", "\tx"]
    Path("program.py").write_text("import json\nprint(json.dumps({'loss': -1.5, '=cmd': 2}))\n")
    Path("cells.yaml").write_text(
        "command: {argv: [python, program.py, '{text}'], parameters: {text: plain}}\n"
        "tuning:\n  workflow: command\n  objective: minimize loss\n  sampler: grid\n  executor: serial\n"
        f"  space: {{command.parameters.text: {json.dumps(texts)}}}\n"
    )
    assert cli("tune", "cells.yaml").code == 0
    with Path("runs/cells/1/trials.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["command.parameters.text"] for row in rows] == ["'=1+2", "'+1", "'-2", "'@SUM(A1)", "plain", "'\tx"]
    assert {row["loss"] for row in rows} == {"-1.5"}
    assert {row["'=cmd"] for row in rows} == {"2.0"}
    stored = json.loads(Path("runs/cells/1/trials.json").read_text())
    assert [row["command.parameters.text"] for row in stored] == texts, "JSON keeps the text as it is"
