"""`loggers:` as a user meets it: a missing package, a server that is not there or never answers, a process killed."""

from __future__ import annotations

import importlib.util
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import QUICK, Cli
from tests.support.logger_readers import read
from tests.support.waiting import PATIENCE, until

TRAIN = """\
name: n
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [8]}
training: {epochs: 3, batch_size: 32, optimizer: {type: adam, lr: 0.01}}
loggers: LOGGERS
"""


def installed(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def test_a_missing_package_is_told_before_anything_begins(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mlflow" else there(name))
    (tmp_path / "n.yaml").write_text(TRAIN.replace("LOGGERS", "[{type: mlflow}]"))
    for command in ("validate", "train"):
        result = cli(command, "n.yaml")
        assert result.code == 2
        assert "n.yaml:5:" in result.err
        assert "pip install 'modelopt-cli[mlflow]'" in result.err
    assert not (tmp_path / "runs").exists()
    assert cli("validate", "n.yaml", "--set", "loggers=[]").code == 0


@pytest.mark.parametrize(
    ("loggers", "message"),
    [
        ("[tensorbord]", "unknown logger 'tensorbord'. Did you mean 'tensorboard'?"),
        ("tensorboard", "loggers"),
        ("[{type: mlflow, uri: 'localhost:5000'}]", "'localhost:5000' is no address of MLflow"),
        ("[{type: mlflow, uri: 'ftp://user:secret@host'}]", "'ftp://host' is no address of MLflow"),
        ("[{type: wandb, mode: on}]", "mode"),
        ("[{type: trackio, wait: 0}]", "wait"),
        ("[{type: tensorboard, uri: x}]", "uri"),
    ],
)
def test_what_is_no_logger_is_refused_at_its_line(cli: Cli, tmp_path: Path, loggers: str, message: str) -> None:
    (tmp_path / "n.yaml").write_text(TRAIN.replace("LOGGERS", loggers))
    result = cli("validate", "n.yaml")
    assert result.code == 2
    assert "n.yaml:5:" in result.err
    assert message in result.err
    assert "secret" not in result.err.partition("\n")[0]


def test_where_runs_are_logged_cannot_be_searched(cli: Cli, tmp_path: Path) -> None:
    text = QUICK.replace("model.hidden.0: [4, 8, 16]", "loggers: [[tensorboard], []]") + "loggers: []\n"
    (tmp_path / "n.yaml").write_text(text)
    result = cli("validate", "n.yaml")
    assert result.code == 2
    assert "says where runs are logged" in result.err


@pytest.mark.slow
@pytest.mark.parametrize("answers", [False, True], ids=["refuses", "hangs"])
def test_a_server_that_is_of_no_use_costs_a_warning(cli: Cli, tmp_path: Path, answers: bool) -> None:
    installed("mlflow")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        if answers:
            server.listen(16)  # connections are taken, and nothing ever comes back
        options = f"[{{type: mlflow, uri: 'http://user:secret@127.0.0.1:{port}', wait: 2}}]"
        (tmp_path / "n.yaml").write_text(TRAIN.replace("LOGGERS", options))
        result = cli("train", "n.yaml", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["status"] == "completed"
    assert [warning for warning in report["warnings"] if warning.startswith("mlflow: ")]
    saved = json.loads((tmp_path / "runs/n/1/report.json").read_text())
    assert saved["warnings"] == report["warnings"]
    assert "secret" not in result.err + result.out


@pytest.mark.slow
def test_environment_variables_do_not_make_it_online(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("mlflow", "wandb"):
        installed(package)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "WANDB_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, address)
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
        monkeypatch.setenv("WANDB_PROJECT", "other")
        (tmp_path / "n.yaml").write_text(TRAIN.replace("LOGGERS", "[mlflow, wandb]"))
        result = cli("train", "n.yaml")
        assert result.code == 0, result.err
        assert "warning" not in result.err
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert set(read("mlflow", tmp_path / "runs")) == {"n/1"}
    assert set(read("wandb", tmp_path / "runs")) == {"n/1"}


# The second trial does not begin.
HELD = """\
import time

from modelopt_cli.cli.main import main
from modelopt_cli.tuning.executors._serial import SerialPool

def start(self, trial, *more, start=SerialPool.start):
    while trial.number:
        time.sleep(1)
    start(self, trial, *more)

SerialPool.start = start
main()
"""


@pytest.mark.slow
def test_a_search_that_is_killed_and_resumed_is_one_run(tmp_path: Path) -> None:
    installed("tensorboard")
    (tmp_path / "n.yaml").write_text(
        QUICK.replace("name: quick", "name: n").replace("epochs: 3", "epochs: 60") + "loggers: [tensorboard]\n"
    )
    command = [sys.executable, "-c", "from modelopt_cli.cli.main import main; main()", "tune", "n.yaml"]
    journal = tmp_path / "runs/n/1/.loggers"
    noted = lambda: any('"trial-0"' in path.read_text() for path in journal.glob("*.jsonl"))  # noqa: E731
    held = [*command[:2], HELD, *command[3:]]
    with subprocess.Popen(held, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until(noted, "that its first trial is logged", process)
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = subprocess.run(
        [*command, "--resume"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    kept = read("tensorboard", tmp_path / "runs")
    assert set(kept) == {"run", *(f"trial-{number}" for number in range(4))}
    assert {run["status"] for run in kept.values()} == {"1"}
    for number in range(4):
        steps = [step for step, _ in kept[f"trial-{number}"]["curves"]["validation.loss"]]
        assert sorted(set(steps)) == list(range(1, 61))
