"""Where standard error is no terminal: a line for each stage, one at least every 30 s, none where it is to be quiet."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from modelopt_cli.cli import running
from modelopt_cli.cli.render.progress import PlainProgress
from modelopt_cli.workflows.shared.context import StageBegun, StopFlag
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from tests.support.cli import Cli

FILE = """\
name: staged
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [8]}
training: {epochs: 2, batch_size: 64}
pruning:
  structure: neurons
  amount: 0.5
  schedule: {type: rounds, rounds: 2}
  recovery: {epochs: 1}
"""
DISTILL = """\
name: staged
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [8]}
training: {epochs: 2, batch_size: 64}
distillation: {teacher: {model: {type: mlp, hidden: [16]}, training: {epochs: 2, batch_size: 64}}}
"""


@pytest.mark.slow
def test_pruning_tells_every_stage(cli: Cli) -> None:
    Path("staged.yaml").write_text(FILE)
    result = cli("prune", "staged.yaml", "--out", "run")
    assert result.code == 0
    lines = [line.strip() for line in result.err.splitlines()]
    stages = [line for line in lines if not line.startswith(("step ", "still "))]
    assert stages == [
        "checking the experiment and reading its data",
        "building the model, and looking for what may go",
        "training",
        "pruning by magnitude (stage 1 of 2)",
        "recovery (stage 1 of 2)",
        "pruning by magnitude (stage 2 of 2)",
        "recovery (stage 2 of 2)",
        "judging and measuring what came of it",
        "writing the model that there was before, and the program of the new one",
    ]
    assert cli("prune", "staged.yaml", "--out", "quiet", "--quiet").err == ""


def test_distilling_tells_who_is_trained(cli: Cli) -> None:
    Path("staged.yaml").write_text(DISTILL)
    lines = [line.strip() for line in cli("distill", "staged.yaml", "--out", "run").err.splitlines()]
    stages = [line for line in lines if not line.startswith(("step ", "still "))]
    assert stages[0] == "checking the experiment and reading its data"
    assert stages[1:] == ["teacher", "student alone", "student", "judging and measuring what came of it"]


class Listened(io.StringIO):
    """Says when a text has been written twice."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text, self.twice = text, threading.Event()

    def write(self, written: str) -> int:
        count = super().write(written)
        if self.getvalue().count(self._text) > 1:
            self.twice.set()
        return count


def test_a_stage_that_takes_long_is_told_again() -> None:
    stream = Listened("still pruning by obs (")
    with PlainProgress(Console(file=stream), silence=0.2) as progress:
        progress.take(StageBegun("pruning by obs"))
        assert stream.twice.wait(PATIENCE)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ("", "nothing is kept"),
        ("all up to step 5 of 20", "all up to step 5 of 20 is kept; go on with --resume"),
    ],
)
def test_an_end_by_force_promises_what_there_is(
    kept: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[Any] = []
    monkeypatch.setattr("os._exit", codes.append)
    stop = StopFlag()
    stop.kept = kept
    running.leave_at_once(15, stop)
    assert codes == [143]
    assert said in capsys.readouterr().err
