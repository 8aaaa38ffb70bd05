"""The command line, called as a user would, in this process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

CONFIGS = Path(__file__).parents[2] / "configs"

# Small enough to search in a second.
QUICK = """\
version: 1
name: quick
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [8]}
training: {epochs: 3, batch_size: 32, optimizer: {type: adam, lr: 0.01}}
tuning:
  objective: maximize validation.accuracy
  sampler: random
  trials: 4
  executor: serial
  space:
    training.optimizer.lr: {float: [1.0e-3, 0.1], log: true}
    model.hidden.0: [4, 8, 16]
"""


class Result(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cli]:
    """Runs `modelopt ARGS...` in an empty folder; gives exit code, standard output and standard error."""
    from modelopt_cli.cli.guard import guarded
    from modelopt_cli.cli.main import app

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Result:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr("sys.argv", ["modelopt", *words])
        capsys.readouterr()
        code = guarded(lambda: app(words, standalone_mode=False), as_json="--json" in words)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    path = tmp_path / "quick.yaml"
    path.write_text(QUICK)
    return path
