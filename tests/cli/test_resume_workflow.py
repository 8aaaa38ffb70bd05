"""`--resume` goes on with a run of the same command: it never writes over what another one has found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.cli import Cli

EXPERIMENT = """\
version: 1
name: it
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [4]}
training: {epochs: 1}
pruning: {amount: 0.5}
"""


@pytest.mark.parametrize("where", [(), ("--out", "runs/it/1")])
def test_a_run_of_another_command_is_not_gone_on_with(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("it.yaml").write_text(EXPERIMENT)
    run = Path("runs/it/1")
    run.mkdir(parents=True)
    before = json.dumps({"workflow": "train", "name": "it", "status": "completed"})
    (run / "report.json").write_text(before)
    done = cli("prune", "it.yaml", "--resume", *where)
    assert done.code == 2
    assert "modelopt prune" in done.err
    assert "leave out --resume" in done.err
    assert (run / "report.json").read_text() == before
