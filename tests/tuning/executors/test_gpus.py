"""Which GPUs trials in worker processes see. Their names are made up, and trials tell what they see."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from modelopt_cli.core import device
from modelopt_cli.core.errors import UsageError
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.tuning.executors._gpus import VARIABLE, gpu_places, least_used
from modelopt_cli.tuning.executors.processes import Processes
from modelopt_cli.tuning.objective import Objective, Run, StepReport
from modelopt_cli.tuning.search.search import Search
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.workflows.factory import on_one_gpu


class Sees(Run):
    """Tells which GPU its process sees: the number, or 0.1 for 0 and 1; -1 for no word of it."""

    def advance(self, until: int) -> list[StepReport]:
        self.step = self.total
        return [(1, self.metrics())]

    def metrics(self) -> dict[str, float]:
        return {"loss": float(os.environ.get(VARIABLE, "-1").replace(",", "."))}


class SeesObjective(Objective):
    def __init__(self, chosen: str = "auto") -> None:
        self.device = chosen

    def open(self, params: Mapping[str, Any], seed: int, state: Any = None) -> Run:
        return Sees()


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "visible_gpus", lambda: ["4", "7"])
    monkeypatch.delenv(VARIABLE, raising=False)


def seen(executor: Processes, workers: int, chosen: str = "auto", trials: int = 6) -> tuple[set[float], int]:
    """What trials saw, and how many there were at a time."""
    study = Study({"x": {"float": [0, 1]}}, "random")
    pool = executor.open(SeesObjective(chosen), workers)
    Search(study, pool, trials=trials).run()
    return {trial.metrics["loss"] for trial in study.trials}, pool.slots


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gpus", "workers", "sight", "slots"),
    [
        (None, 2, {4.0, 7.0}, 2),
        (None, 4, {4.0, 7.0}, 4),
        (1, 5, {4.0, 7.0}, 2),
        (0.5, 8, {4.0, 7.0}, 4),
        (2, 3, {4.7}, 1),
    ],
)
@pytest.mark.usefixtures("two_gpus")
def test_each_trial_sees_its_own(gpus: float | None, workers: int, sight: set[float], slots: int) -> None:
    seen_by_trials, at_a_time = seen(Processes(gpus_per_trial=gpus), workers, trials=12)
    assert at_a_time == slots
    assert seen_by_trials <= sight
    if slots == 1:
        assert seen_by_trials == sight


@pytest.mark.slow
@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("chosen", ["cpu", "cuda:1"])
def test_who_names_a_device_sees_all(chosen: str) -> None:
    assert seen(Processes(), 2, chosen, trials=2) == ({-1.0}, 2)


@pytest.mark.usefixtures("two_gpus")
def test_workers_are_spread_evenly() -> None:
    places = gpu_places(0.5, "auto")
    assert Counter(places) == {"4": 2, "7": 2}
    used: list[str] = []
    for _ in range(4):
        used.append(least_used(places, used))
    assert Counter(used) == Counter(places)
    assert gpu_places(2, "cuda") == ["4,7"]
    assert gpu_places(1 / 3, "auto") == ["4", "7"] * 3
    assert gpu_places(None, "cpu") == []


@pytest.mark.parametrize(
    ("names", "there"), [([], "no GPU that torch can use"), (["0"], "1 GPU"), (["0", "1"], "2 GPUs")]
)
def test_more_than_there_are(monkeypatch: pytest.MonkeyPatch, names: list[str], there: str) -> None:
    monkeypatch.setattr(device, "visible_gpus", lambda: names)
    for refused in (
        lambda: Processes(gpus_per_trial=3).places(4, 2),
        lambda: Processes(gpus_per_trial=3).open(SeesObjective()),
    ):
        with pytest.raises(UsageError, match=f"gpus_per_trial is 3, but this machine has {there}"):
            refused()


@pytest.mark.usefixtures("two_gpus")
def test_places_are_those_of_the_gpus() -> None:
    assert Processes(gpus_per_trial=0.5).places(None, 16) == 4
    assert Processes(gpus_per_trial=1).places(3, 16) == 2
    assert Processes(gpus_per_trial=1).places(1, 16) == 1
    assert Processes().places(None, 16) == 16


@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_a_share_that_cannot_be_given_out(value: float) -> None:
    with pytest.raises(ValueError, match=r"gpus_per_trial"):
        Processes.model_validate({"gpus_per_trial": value})


def test_a_named_gpu_and_gpus_of_ones_own_are_refused_with_the_remedy() -> None:
    sections = {
        "data": {"type": "digits"},
        "model": {"type": "mlp"},
        "training": {},
        "device": "cuda:1",
        "tuning": {
            "objective": "maximize validation.accuracy",
            "trials": 2,
            "executor": {"type": "processes", "gpus_per_trial": 1},
            "space": {"training.batch_size": [16, 32]},
        },
    }
    with pytest.raises(UsageError, match="set device: cuda or auto"):
        Experiment.load(sections)


def test_names_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert device.visible_gpus() == ["0", "1"]
    monkeypatch.setenv(VARIABLE, "3, GPU-12ab")
    assert device.visible_gpus() == ["3", "GPU-12ab"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.visible_gpus() == []


def test_a_trial_over_several_processes_shares_out_the_gpus_itself() -> None:
    sections = {"data": {"type": "digits"}, "model": {"type": "mlp"}, "training": {"epochs": 1}}
    assert on_one_gpu(Experiment.load(sections))
    spread = {**sections, "training": {"distributed": {"processes": 2}}}
    assert not on_one_gpu(Experiment.load(spread))
    assert not on_one_gpu(
        Experiment.load({**sections, "training": None, "model": {"type": "sklearn", "estimator": "sklearn.svm.SVC"}})
    )
