"""A run's folder, or its study alone, that is removed or renamed while the run goes on: exit 6 and one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.cli import Cli

SCRIPT = """\
import json, os, shutil, sys
x, run = float(sys.argv[1]), {run!r}
if x == 2 and os.path.exists(run):
    {change}
print(json.dumps({{"loss": x}}))
"""
FILE = """\
name: gone
command: {argv: [python, program.py, "{x}"], parameters: {x: 0}}
tuning:
  workflow: command
  objective: minimize loss
  sampler: grid
  executor: serial
  space: {command.parameters.x: [1, 2, 3, 4, 5]}
"""
MINE = """\
import os, shutil
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x):
        if os.path.exists("run/environment.json"):
            shutil.rmtree("run")
        return self.layer(x)
"""
TRAIN = """\
name: gone
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: python, target: "mine:Net"}
training: {epochs: 2, batch_size: 64}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        "shutil.rmtree(run)",
        "os.rename(run, run + '-elsewhere')",
        "os.rename(run, run + '-elsewhere'); os.mkdir(run)",
        "os.remove(run + '/study.sqlite')",
        "os.remove(run + '/study.sqlite-wal')",
        "os.rename(run + '/study.sqlite', run + '/other'); open(run + '/study.sqlite', 'w').close()",
    ],
)
@pytest.mark.parametrize("json_", [False, True])
def test_a_search_ends_with_one_line(change: str, json_: bool, tmp_path: Path, cli: Cli) -> None:
    Path("program.py").write_text(SCRIPT.format(run=str(tmp_path / "run"), change=change))
    Path("gone.yaml").write_text(FILE)
    result = cli("tune", "gone.yaml", "--out", "run", "--quiet", *(["--json"] if json_ else []))
    assert result.code == 6
    assert len(result.err.splitlines()) == 1
    assert "removed, renamed or replaced" in result.err
    if json_:
        assert json.loads(result.out)["error"]["exit_code"] == 6


@pytest.mark.parametrize("command", ["train", "prune", "distill"])
def test_a_single_run_ends_with_one_line(command: str, cli: Cli) -> None:
    Path("mine.py").write_text(MINE)
    sections = {
        "train": "",
        "prune": "pruning: {amount: 0.5}\n",
        "distill": "distillation: {teacher: {model: {type: mlp}, training: {epochs: 1, batch_size: 64}}}\n",
    }
    Path("gone.yaml").write_text(TRAIN + sections[command])
    result = cli(command, "gone.yaml", "--out", "run", "--quiet")
    assert result.code == 6
    assert len([line for line in result.err.splitlines() if line.startswith("error")]) == 1
    assert "internal" not in result.err
    assert not Path("run").exists(), "it does not come back half written"
