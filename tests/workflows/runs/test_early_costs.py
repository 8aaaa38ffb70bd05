"""Trials that may be stopped tell what their models cost as they go on, so that stoppers compare all objectives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelopt_cli import load, tune
from modelopt_cli.tuning.study.study import Study

BASE: dict[str, Any] = {
    "name": "early",
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [8]},
    "training": {"epochs": 4, "batch_size": 64, "optimizer": {"type": "adam", "lr": 0.02}},
}
TUNING: dict[str, Any] = {
    "objective": ["maximize validation.accuracy", "minimize model.size_bytes"],
    "sampler": "random",
    "executor": "serial",
    "trials": 8,
    "stopper": {"type": "asha", "min_steps": 1, "factor": 2},
    "space": {"model.hidden.0": {"int": [2, 32]}},
}
CASES: dict[str, dict[str, Any]] = {
    "train": {},
    "prune": {"pruning": {"structure": "neurons", "amount": 0.5, "recovery": {"epochs": 2}}},
    "distill": {
        "distillation": {"teacher": {"model": {"type": "mlp", "hidden": [16]}, "training": {"epochs": 1}}},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("workflow", CASES)
def test_several_objectives_stop_trials_in_every_workflow(workflow: str, tmp_path: Path) -> None:
    content = {**BASE, **CASES[workflow], "tuning": {**TUNING, "workflow": workflow}}
    report = tune(load(content), out=tmp_path / "run")
    trials, _ = Study.read(tmp_path / "run" / "study.sqlite")
    last = [trial.curve[-1] for trial in trials]
    assert all("model.size_bytes" in point.metrics and point.losses is not None for point in last)
    for trial in trials:
        assert trial.curve[-1].metrics["model.size_bytes"] == trial.metrics["model.size_bytes"]
    stopped = [trial for trial in trials if trial.state == "stopped"]
    assert stopped, "asha compares them"
    assert all("and model.size_bytes" in trial.reason for trial in stopped)
    assert not any("could end none" in text for text in report.warnings)


@pytest.mark.slow
def test_latency_and_operations_too(tmp_path: Path) -> None:
    objective = ["maximize validation.accuracy", "minimize model.latency_ms", "minimize model.macs"]
    patient = {"type": "patience", "reports": 50}  # ends none, whatever the clock says
    tuning = {**TUNING, "workflow": "prune", "objective": objective, "trials": 2, "stopper": patient}
    tune(load({**BASE, **CASES["prune"], "tuning": tuning}), out=tmp_path / "run")
    trials, _ = Study.read(tmp_path / "run" / "study.sqlite")
    for trial in trials:
        dense, pruned = trial.curve[0].metrics, trial.curve[-1].metrics
        assert 0 < pruned["model.macs"] < dense["model.macs"]
        assert pruned["model.macs"] == trial.metrics["model.macs"]
        assert pruned["model.latency_ms"] > 0


@pytest.mark.slow
def test_an_objective_that_is_known_at_the_end_alone_is_told() -> None:
    tuning = {**TUNING, "workflow": "prune", "objective": ["maximize validation.accuracy", "minimize train.seconds"]}
    report = tune(load({**BASE, **CASES["prune"], "tuning": {**tuning, "trials": 3}}))
    assert any("no report held 'train.seconds'" in text and "could end none" in text for text in report.warnings)
