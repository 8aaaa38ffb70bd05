"""A training in several processes is the training of one; and what happens when one of them ends too early."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from modelopt_cli.core import device
from modelopt_cli.core.errors import TrialError, UsageError
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.workflows.runs.distributed import DistributedRun, check_devices
from modelopt_cli.workflows.runs.opening import open_run
from modelopt_cli.workflows.runs.torch import TorchRun

MLP = {"type": "mlp", "hidden": [24, 16], "dropout": 0.3, "batch_norm": True}
CNN = {"type": "cnn", "channels": [4, 8], "dropout": 0.2}
LAST_OF_ONE = 538  # of 1,077 train samples: batches of 538, 538 and 1


def experiment(processes: int | None, **sections: Any) -> Experiment:
    training = {
        "epochs": 3,
        "batch_size": 100,
        "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9},
        "clip_norm": 1.0,
        "class_weights": "balanced",
        "patience": 3,
        **sections.pop("training", {}),
    }
    if processes is not None:
        training["distributed"] = {"processes": processes}
    data = {"type": "digits", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}, **sections.pop("data", {})}
    return Experiment.load({"data": data, "model": MLP, "device": "cpu", **sections, "training": training})


def learnt(run: TorchRun) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = run.state()["trainer"]["module"]
    return state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "sections"),
    [
        (2, {"training": {"batch_size": LAST_OF_ONE}, "model": {**MLP, "batch_norm": False}}),
        (3, {}),  # shares of a batch of 100 differ, and the last batch has 77
        (2, {"model": CNN, "data": {"shape": "image", "augment": [{"type": "mixup", "alpha": 0.4}]}}),
    ],
    ids=["last of one", "three", "images"],
)
def test_what_is_learnt_is_what_one_process_learns(processes: int, sections: dict[str, Any]) -> None:
    """Also when it is cut off after an epoch and others go on from its state."""
    alone = open_run(experiment(None, **sections), 5)
    reports = alone.advance(3)
    assert isinstance(alone, TorchRun)
    first = open_run(experiment(processes, **sections), 5)
    assert isinstance(first, DistributedRun)
    curve = first.advance(1)
    state = first.state()
    first.close()
    second = open_run(experiment(processes, **sections), 5, state=state)
    assert isinstance(second, DistributedRun)
    curve += second.advance(3)
    assert second.step == 3
    for (step, metrics), (own_step, own) in zip(curve, reports, strict=True):
        assert step == own_step
        assert metrics == pytest.approx(own, rel=1e-4)
    weights = learnt(second)
    for name, value in learnt(alone).items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5)
    assert second.metrics()["validation.accuracy"] == pytest.approx(alone.metrics()["validation.accuracy"], abs=0.01)


@pytest.mark.slow
def test_a_training_that_diverges_says_so() -> None:
    run = open_run(experiment(2, training={"optimizer": {"type": "sgd", "lr": 1e30}, "clip_norm": None}), 0)
    with pytest.raises(TrialError) as raised:
        run.advance(3)
    assert raised.value.kind == "nan"


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others() -> None:
    run = open_run(experiment(2, training={"epochs": 100_000}), 0)
    assert isinstance(run, DistributedRun)
    run.advance(1)
    group = run._group
    assert group is not None
    ranks = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and str(group.path) in _command(entry) and "_rank" in _command(entry)
    ]
    workers = [pid for pid in ranks if "torch.distributed.run" not in _command(Path("/proc", str(pid)))]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    with pytest.raises(TrialError, match="the 2 processes of the training") as raised:
        run.advance(100_000)
    assert raised.value.kind == "crash"
    assert not group.path.exists()


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("sections", "rule"),
    [
        ({"pruning": {"amount": 0.5}}, "the file has a pruning section, which runs in one"),
        ({"quantization": {}}, "the file has a quantization section"),
        ({"model": {"type": "sklearn", "estimator": "sklearn.svm.SVC"}}, "the model is sklearn"),
    ],
)
def test_what_runs_in_one_process_is_refused(sections: dict[str, Any], rule: str) -> None:
    with pytest.raises(UsageError, match=rule):
        experiment(2, **sections)


def test_a_recovery_has_no_processes_of_its_own() -> None:
    with pytest.raises(UsageError, match="distributed"):
        experiment(None, pruning={"amount": 0.5, "recovery": {"distributed": {"processes": 2}}})


def test_one_process_is_no_group() -> None:
    with pytest.raises(UsageError, match="must be at least 2"):
        experiment(1)


def test_each_process_has_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "choose", lambda name: "cuda" if name == "auto" else name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_devices(experiment(2, device="auto"))
    with pytest.raises(UsageError, match=r"processes is 3, but this machine has 2 GPUs"):
        check_devices(experiment(3, device="auto"))
    with pytest.raises(UsageError, match="write device: cuda"):
        check_devices(experiment(2, device="cuda:1"))


def test_nccl_is_for_gpus() -> None:
    chosen = experiment(2).with_values({"training.distributed.backend": "nccl"})
    with pytest.raises(UsageError, match="write auto or gloo"):
        check_devices(chosen)
