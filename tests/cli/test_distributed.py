"""`modelopt train` of a file that spreads its training over processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import Cli

FILE = """\
version: 1
name: d
data: {type: digits, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp}
training: {epochs: 2, distributed: {processes: 2}}
"""


@pytest.mark.slow
def test_a_run_is_as_any_other(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "d.yaml"
    file.write_text(FILE)
    result = cli("train", file)
    assert result.code == 0, result.err
    assert (tmp_path / "runs/d/1/model.pt").exists()
    assert len((tmp_path / "runs/d/1/curve.csv").read_text().splitlines()) == 3
