"""What is said of Ray before a cluster is there: options, addresses where none answers, the package that lacks."""

from __future__ import annotations

import importlib.util
import socket
import threading
from pathlib import Path

import pytest

from modelopt_cli.core.errors import UsageError
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.tuning.executors import NO_LIMITS
from modelopt_cli.tuning.executors.ray import Ray, Resources
from tests.support.cli import QUICK
from tests.support.search_objectives import CurveObjective

pytest.importorskip("ray", reason="needs the extra ray")


def answer_once(listening: socket.socket) -> None:
    with listening.accept()[0] as connection:
        connection.sendall(b"HTTP/1.1 400 Bad Request")


@pytest.mark.slow
def test_no_cluster_at_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(UsageError, match=rf"no Ray cluster answers at 127.0.0.1:{port} \(Connection refused\)"):
            Ray(address=f"127.0.0.1:{port}").places(None, 1)
        free.listen()
        threading.Thread(target=answer_once, args=[free], daemon=True).start()
        with pytest.raises(UsageError, match="is no head node of a Ray cluster"):
            Ray(address=f"127.0.0.1:{port}").open(CurveObjective())
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UsageError, match="no Ray cluster runs on this machine"):
        Ray(address="auto").places(4, 1)
    monkeypatch.setenv("RAY_ADDRESS", "ray://somewhere:10001")
    with pytest.raises(UsageError, match=r"ray://somewhere:10001.*is not HOST:PORT"):
        Ray(address="auto").places(4, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("address: 'ray://head:10001'", "address is 'ray://head:10001', but must be local, auto, or HOST:PORT"),
        ("address: head", "must be local, auto, or HOST:PORT"),
        ("resources: {gpu: 1.5}", "a share of 1.5 is above 1 and not whole"),
        ("resources: {cpu: 0}", "must be above 0"),
        ("workers: 0", "must be at least 1"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: str, message: str) -> None:
    file = tmp_path / "it.yaml"
    file.write_text(QUICK.replace("executor: serial", f"executor: {{type: ray, {options}}}"))
    with pytest.raises(UsageError, match=r"it.yaml:10:.*") as error:
        Experiment.load(file)
    assert message in str(error.value)


def test_places_without_asking_a_cluster() -> None:
    assert Ray().places(None, 8) == 8
    assert Ray(resources=Resources(cpu=3)).places(None, 8) == 2
    assert Ray(workers=3).places(None, 8) == Ray().places(3, 8) == 3
    with pytest.raises(UsageError, match=r"tuning.executor.workers is 3, but tuning.workers is 2; write one of them"):
        Ray(workers=3).places(2, 8)
    with pytest.raises(UsageError, match=r"takes 16 CPUs .*this machine has 8"):
        Ray(resources=Resources(cpu=16)).places(None, 8)


def test_without_ray_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else find(name, *more))
    file = tmp_path / "it.yaml"
    file.write_text(QUICK.replace("executor: serial", "executor: ray"))
    with pytest.raises(UsageError, match=r"it.yaml:10:.*(.|\n)*modelopt-cli\[ray\]"):
        Experiment.load(file)
    assert Ray().problem(NO_LIMITS) is not None


def test_a_gpu_must_be_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "it.yaml"
    text = QUICK.replace("executor: serial", "executor: ray") + "device: cuda\n"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"device is cuda, but a trial is given no GPU"):
        Experiment.load(file)
    file.write_text(text.replace("executor: ray", "executor: {type: ray, resources: {gpu: 0.5}}"))
    Experiment.load(file)
