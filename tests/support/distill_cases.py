"""Small distillations, and how their outcomes are compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.models.files import checkpoints
from modelopt_cli.results.report import Report, Table
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.workflows import distill
from modelopt_cli.workflows.shared.context import Context, EpochEnded, StopFlag

SGD = {"type": "sgd", "lr": 0.1, "momentum": 0.9}
TEACHER: dict[str, Any] = {
    "model": {"type": "mlp", "hidden": [16], "dropout": 0.1},
    "training": {"epochs": 2, "batch_size": 16, "optimizer": SGD},
}
SOFT: list[dict[str, Any]] = [{"type": "labels", "weight": 0.1}, {"type": "soft_targets", "weight": 0.9}]
BASE: dict[str, Any] = {
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [6], "batch_norm": True, "dropout": 0.1},
    "training": {"epochs": 3, "batch_size": 16, "optimizer": SGD},
    "distillation": {"teacher": TEACHER, "losses": SOFT},
}


def experiment(distillation: dict[str, Any] | None = None, **sections: Any) -> Experiment:
    section = {"losses": SOFT, **distillation} if distillation is not None else BASE["distillation"]
    return Experiment.load({**BASE, "distillation": section, **sections})


def distilled(chosen: Experiment, out: Path | None = None, **given: Any) -> Report:
    if out is None:
        return distill.run(chosen, Context(**given))
    with RunDirectory.create_at(out, resume=given.get("resume", False)) as directory:
        return distill.run(chosen, Context(directory=directory, **given))


def stopping_at(step: int, stop: StopFlag) -> Callable[[Any], None]:
    def count(event: Any) -> None:
        if isinstance(event, EpochEnded) and event.step == step:
            stop.set(2)

    return count


def interrupted(chosen: Experiment, out: Path, step: int, *, resume: bool = False) -> Report:
    """A run that was asked to stop after so many steps."""
    stop = StopFlag()
    report = distilled(chosen, out, emit=stopping_at(step, stop), stop=stop, resume=resume)
    assert report.status == "interrupted"
    return report


def rows(table: Table) -> list[dict[str, Any]]:
    return table.records()


def learners(report: Report) -> dict[str, dict[str, Any]]:
    """Name -> row of the weights that are kept."""
    return {row["learner"]: row for row in rows(report.tables["learners"]) if row["kept"]}


def timed(name: str) -> bool:
    """Whether it differs from run to run: a time, or the size of a teacher's file, whose texts pickle writes once where
    they are one object, which they are not any more once they have been read from a file."""
    return "seconds" in name or "latency" in name or name == "model.file_bytes_ratio"


def timed_text(warning: str) -> bool:
    """Whether it tells how long something took, or how noisy that was."""
    return "would take" in warning or " is noisy" in warning


def figures(report: Report) -> dict[str, Any]:
    """All that must come out the same again."""
    return {
        "metrics": {name: value for name, value in report.metrics.items() if not timed(name)},
        "learners": rows(report.tables["learners"]),
        "curve": [
            {name: value for name, value in row.items() if not timed(name)} for row in rows(report.tables["curve"])
        ],
        "warnings": [warning for warning in report.warnings if not timed_text(warning)],
        "members": report.details["members"],
    }


def state(path: Path) -> dict[str, torch.Tensor]:
    return dict(checkpoints.load(path).model.state_dict())


def state_of(report: Report) -> dict[str, torch.Tensor]:
    return dict(report.model.model.state_dict())


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert list(first) == list(second)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def differ(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(tensor, second[name]) for name, tensor in first.items())
