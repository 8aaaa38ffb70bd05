"""SIGKILL, sent to a real search: resumed it ends with the very trials of one that was left alone, and replays."""

from __future__ import annotations

import csv
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Cli
from tests.support.waiting import until

# The third trial waits in its midst as long as WAITS is set, so that it is sure to be under way when it is killed.
SCRIPT = """\
import json, os, sys, time
lr, width = float(sys.argv[1]), int(sys.argv[2])
for step in range(1, 6):
    while "WAITS" in os.environ and os.environ["MODELOPT_TRIAL_DIR"].endswith("/2") and step == 2:
        time.sleep(0.02)
    print(json.dumps({"step": step, "loss": (lr - 0.1) ** 2 + 0.01 * width + 1 / step}), flush=True)
"""
FILE = """\
name: killed
command: {argv: [python, program.py, "{lr}", "{width}"], parameters: {lr: 0.5, width: 3}}
tuning:
  workflow: command
  objective: minimize loss
  sampler: {type: bayesian, initial_points: 3}
  trials: 5
  executor: serial
  stopper: {type: asha, factor: 2}
  space:
    command.parameters.lr: {float: [0.01, 1.0], log: true}
    command.parameters.width: {int: [1, 9]}
"""


def ended_trials(run: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{run / 'study.sqlite'}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM events WHERE kind = 'told'").fetchone()[0])
    except sqlite3.Error:  # not there yet
        return 0


def killed(file: str, run: Path, trials: int) -> None:
    """Start the search, and kill it once so many trials have ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from modelopt_cli.cli.main import main; main()", "tune", file, "--out", run],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "WAITS": "1"},
        start_new_session=True,
    )
    until(lambda: ended_trials(run) >= trials, f"{trials} trials have ended", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert ended_trials(run) == trials


def rows(run: Path) -> list[dict[str, Any]]:
    table = csv.DictReader((run / "trials.csv").read_text().splitlines())
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in table]


@pytest.mark.slow
def test_killed_and_resumed_it_ends_as_if_left_alone(cli: Cli) -> None:
    Path("program.py").write_text(SCRIPT)
    Path("killed.yaml").write_text(FILE)
    run = Path("run").absolute()
    killed("killed.yaml", run, 2)
    assert cli("tune", "killed.yaml", "--out", "run", "--resume", "--quiet").code == 0
    assert cli("tune", "killed.yaml", "--out", "whole", "--quiet").code == 0
    assert rows(run) == rows(Path("whole"))
    assert len(rows(run)) == 5
    assert "stopped" in [row["state"] for row in rows(run)]
    for folder in ("run", "whole"):
        replayed = cli("replay", folder)
        assert replayed.code == 0, replayed.out + replayed.err
        assert "4 of 4 suggestions of the sampler agree" in replayed.out
