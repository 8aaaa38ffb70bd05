"""What must start fast does not import what is slow: --help, --version, completion and validate."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE

CONFIGS = Path(__file__).parents[2] / "configs"
HEAVY = ("torch", "sklearn", "skopt", "scipy", "numpy", "pandas", "matplotlib", "pyarrow", "PIL")
COMMANDS = {
    "help": ["--help"],
    "help of a command": ["tune", "--help"],
    "version": ["--version"],
    "completion script": ["--show-completion", "bash"],
    "validate": ["validate", *map(str, sorted(CONFIGS.glob("*.yaml")))],
    "validate a wrong file": ["validate", "wrong.yaml"],
    "list": ["list"],
    "init": ["init", "digits_mlp"],
    "a typo": ["tun"],
}
PROGRAM = """\
import sys
from modelopt_cli.cli.main import main
try:
    main()
finally:
    heavy = sorted(set(sys.argv.pop().split(",")) & set(sys.modules))
    print("HEAVY", heavy, file=sys.stderr)
"""


def imported(arguments: list[str], folder: Path, **environment: str) -> tuple[str, str]:
    """What a fresh `modelopt ARGUMENTS` prints, and which heavy modules it has imported."""
    # The names travel in the environment, so that the command sees the arguments alone.
    program = PROGRAM.replace("sys.argv.pop()", f"{','.join(HEAVY)!r}")
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env={**os.environ, "MNIST": ".", "CIFAR100": ".", **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr, done.stderr.rpartition("HEAVY ")[2].strip()


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_heavy_is_imported(tmp_path: Path, name: str) -> None:
    (tmp_path / "wrong.yaml").write_text("modle: {type: mlp}\ntraining: {epochs: many}\n")
    _, heavy = imported(COMMANDS[name], tmp_path)
    assert heavy == "[]"


def test_completion_names_commands_and_imports_nothing_heavy(tmp_path: Path) -> None:
    environment = {"_MODELOPT_COMPLETE": "complete_bash", "COMP_WORDS": "modelopt t", "COMP_CWORD": "1"}
    out, heavy = imported([], tmp_path, **environment)
    assert "tune" in out
    assert "train" in out
    assert heavy == "[]"


@pytest.mark.slow
def test_the_probe_sees_what_is_heavy(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(
        "data: {type: iris}\nmodel: {type: sklearn, estimator: sklearn.naive_bayes.GaussianNB}\n"
    )
    _, heavy = imported(["train", "x.yaml", "--dry-run"], tmp_path)
    assert "numpy" in heavy
    assert "sklearn" in heavy
