"""What a search keeps beside its report: the curve of every trial, and when each ran; also of one without a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelopt_cli import load, tune
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.results.saved_run import read_run
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.table import curves_table
from modelopt_cli.workflows import tune as workflow
from modelopt_cli.workflows.shared.context import Context
from modelopt_cli.workflows.show import run_report

SEARCH: dict[str, Any] = {
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [4]},
    "training": {"epochs": 3},
    "tuning": {
        "objective": ["maximize validation.accuracy", "minimize validation.loss"],
        "sampler": "random",
        "trials": 4,
        "space": {"training.optimizer.lr": {"float": [0.001, 1.0], "log": True}},
    },
}


def test_a_search_keeps_curves_and_timeline(tmp_path: Path) -> None:
    with RunDirectory.create_at(tmp_path / "run") as directory:
        report = workflow.run(load(SEARCH), Context(directory))
    curves = report.records("curves")
    assert [(row["trial"], row["step"]) for row in curves] == [(n, step) for n in range(4) for step in (1, 2, 3)]
    assert set(curves[0]) == {"trial", "step", "validation.accuracy", "validation.loss"}
    trials, _ = Study.read(tmp_path / "run/study.sqlite")
    assert [row["validation.loss"] for row in curves] == [
        point.metrics["validation.loss"] for trial in trials for point in trial.curve
    ]
    timeline = report.records("timeline")
    assert [(row["trial"], row["lane"], row["state"]) for row in timeline] == [(n, 1, "completed") for n in range(4)]
    assert all(0 <= row["start"] < row["end"] <= report.seconds for row in timeline)
    saved = read_run(tmp_path / "run")
    assert (saved.records("curves"), saved.records("timeline")) == (curves, timeline)
    assert not {"curves", "timeline"} & set(json.loads(saved.to_json())["tables"])
    (tmp_path / "run/report.json").unlink()  # as after a kill
    killed = run_report(tmp_path / "run")
    assert killed.status == "interrupted"
    assert (killed.records("curves"), killed.records("timeline")) == (curves, timeline)


def test_failed_and_stopped_trials_have_curves_and_names_do_not_clash() -> None:
    study = Study({"x": {"float": [0, 1]}}, "random", "minimize step")
    for number in range(3):
        trial = study.ask()
        study.report(trial, 1, {"step": 0.5})
        study.report(trial, 2, {"step": float("nan") if number == 1 else 0.25})
        study.tell(trial, ValueError("no") if number == 1 else {"step": 1.0}, stopped="slow" if number == 2 else "")
    table = curves_table(study.trials, ["step"])
    assert table.columns == ["trial", "step", "metric.step"]
    assert table.rows == [[0, 1, 0.5], [0, 2, 0.25], [1, 1, 0.5], [1, 2, None], [2, 1, 0.5], [2, 2, 0.25]]


def test_a_search_in_memory_has_them_too() -> None:
    report = tune(load({**SEARCH, "tuning": {**SEARCH["tuning"], "trials": 1}}))
    assert (len(report.records("curves")), len(report.records("timeline"))) == (3, 1)
