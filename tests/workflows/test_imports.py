"""Who trains loads nothing of pruning or distillation: a kind of run is imported when it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

OTHERS = (
    "modelopt_cli.workflows.pruning",
    "modelopt_cli.workflows.distillation",
    "modelopt_cli.workflows.prune",
    "modelopt_cli.workflows.distill",
    "modelopt_cli.pruning",
    "modelopt_cli.distillation",
)
PROGRAM = """
import json, sys
from pathlib import Path
from modelopt_cli.experiment.experiment import Experiment
Experiment.load(Path(sys.argv[2]))
validated = set(sys.modules)
from modelopt_cli.cli.main import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
Path("loaded.json").write_text(json.dumps(sorted(set(sys.modules) - validated)))
"""
FILE: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [4]},
    "training": {"epochs": 1},
    "tuning": {
        "objective": "maximize validation.accuracy",
        "trials": 2,
        "executor": "serial",
        "space": {"training.optimizer.lr": {"float": [1e-3, 0.1]}},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["train"], ["tune"], ["train", "--set", "seeds=2", "--set", "tuning=null"], ["train", "--dry-run"]]
)
def test_training_loads_nothing_of_other_workflows(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(json.dumps(FILE))
    arguments = [command[0], "small.yaml", *command[1:], "--quiet"]
    subprocess.run([sys.executable, "-c", PROGRAM, *arguments], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    loaded: list[str] = json.loads((tmp_path / "loaded.json").read_text())
    assert "modelopt_cli.training.trainer" in loaded
    assert [name for name in loaded if name.startswith(OTHERS)] == []
