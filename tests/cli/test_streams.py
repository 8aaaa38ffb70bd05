"""Standard output that is closed, full, cut off or narrow in its alphabet, and shared with code that prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.waiting import PATIENCE

TRAINED = """\
version: 1
name: streams
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: sklearn, estimator: sklearn.tree.DecisionTreeClassifier, max_depth: 2}
"""
PRINTING = """\
import os
import sys

import torch

print("printed when imported")
os.write(1, b"written to descriptor 1\\n")


def build(shapes):
    print("printed when built")
    return torch.nn.Linear(4, 3)
"""


def modelopt(folder: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    """The command as a shell starts it."""
    program = "from modelopt_cli.cli.main import main; main()"
    return subprocess.run(  # type: ignore[call-overload]
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        timeout=PATIENCE,
        **{"stderr": subprocess.PIPE, **options},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "streams.yaml").write_text(TRAINED)
    return tmp_path


@pytest.mark.slow
def test_a_closed_standard_output_is_no_error(folder: Path) -> None:
    done = modelopt(folder, "train", "streams.yaml", "-q", preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, b"")
    assert (folder / "runs/streams/1/model.pt").exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [("list",), ("schema",), ("list", "--json"), ("init", "iris_grid")])
def test_a_full_disk_behind_standard_output_is_exit_6(folder: Path, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = modelopt(folder, *arguments, stdout=full)
    assert done.returncode == 6
    assert done.stderr.decode().count("error:") == 1
    assert "standard output cannot be written: the disk is full" in done.stderr.decode()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("list",), ("schema",), ("runs",), ("runs", "--json")])
def test_a_reader_that_has_gone_is_exit_141(folder: Path, arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = modelopt(folder, *arguments, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.slow
def test_what_the_encoding_cannot_say_is_replaced(folder: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "100"}
    done = modelopt(folder, "train", "streams.yaml", "-q", stdout=subprocess.PIPE, env=environment)
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert b"accuracy" in done.stdout


@pytest.mark.slow
def test_json_is_the_only_document_whatever_code_prints(folder: Path) -> None:
    (folder / "talks.py").write_text(PRINTING)
    (folder / "talks.yaml").write_text(
        "version: 1\ndata: {type: iris}\nmodel: {type: python, target: talks:build}\ntraining: {epochs: 1}\n"
    )
    done = modelopt(folder, "train", "talks.yaml", "--json", stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["workflow"] == "train"
    for printed in (b"printed when imported", b"printed when built", b"written to descriptor 1"):
        assert printed in done.stderr


def test_predictions_are_the_only_document(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelopt_cli.results.report import Table
    from modelopt_cli.workflows import evaluate

    def talking(*_: object, **__: object) -> tuple[Table, list[str]]:
        print("about to predict")
        return Table(columns=["prediction"], rows=[["a"]]), []

    monkeypatch.setattr(evaluate, "predicted", talking)
    done = cli("predict", "model.pt", "new.csv")
    assert done.out == "prediction\na\n"
    assert "about to predict" in done.err
