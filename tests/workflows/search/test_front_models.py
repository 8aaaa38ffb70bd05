"""A search with several objectives keeps the model of each point of its front, and of no other trial."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli import Report, evaluate, load, tune
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.workflows import tune as workflow
from modelopt_cli.workflows.shared.context import Context, Progress, StopFlag, TrialChanged

TORCH = """
version: 1
name: compromise
data: {type: iris}
model: {type: mlp, hidden: [8]}
training: {epochs: 2, batch_size: 32, optimizer: {type: adam, lr: 0.02}}
tuning:
  objective: [maximize validation.accuracy, minimize model.parameters]
  sampler: random
  executor: serial
  trials: 8
  space:
    model.hidden.0: {int: [1, 16]}
    training.optimizer.lr: {float: [0.001, 0.1], log: true}
"""
SKLEARN = """
version: 1
name: trees
data: {type: iris}
model: {type: sklearn, estimator: sklearn.tree.DecisionTreeClassifier}
tuning:
  objective: [maximize validation.accuracy, minimize validation.log_loss]
  sampler: random
  executor: serial
  trials: 6
  space:
    model.max_leaf_nodes: {int: [2, 12]}
"""


def experiment(folder: Path, text: str = TORCH, *overrides: str) -> Any:
    path = folder / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, list(overrides))


def records(report: Report, name: str) -> list[dict[str, Any]]:
    return report.tables[name].records()


def check(run: Path, report: Report) -> None:
    """Each point of the front has its model, whose own figures are the trial's; nothing else is kept."""
    front, trials = records(report, "front"), {row["trial"]: row for row in records(report, "trials")}
    numbers = sorted(int(number) for row in front for number in (row["trial"], *(row.get("same_as") or "").split()))
    assert numbers == report.details["front"]
    assert {path.name for path in (run / "front").iterdir()} == {f"trial-{number}.pt" for number in numbers}
    kept = {path.name for path in (run / ".models").glob("*.pt")}
    assert kept == {f"{trials[number]['seed']}.pt" for number in numbers}, "nothing else is left on the disk"
    for row in front:
        judged = evaluate(run / row["checkpoint"], "validation").metrics
        assert judged["validation.accuracy"] == pytest.approx(row["validation.accuracy"])


@pytest.mark.parametrize(
    "executor", ["serial", pytest.param("processes", marks=pytest.mark.slow)], ids=["serial", "processes"]
)
def test_each_point_of_the_front_has_its_model(tmp_path: Path, executor: str) -> None:
    workers = ["tuning.workers=2"] if executor == "processes" else []
    report = tune(experiment(tmp_path, TORCH, f"tuning.executor={executor}", *workers), out=tmp_path / "run")
    check(tmp_path / "run", report)
    assert len(report.details["front"]) > 1
    with (tmp_path / "run" / "front.csv").open() as stream:
        paths = [row["checkpoint"] for row in csv.DictReader(stream)]
    assert paths == [row["checkpoint"] for row in json.loads((tmp_path / "run" / "front.json").read_text())]
    assert all((tmp_path / "run" / path).is_file() for path in paths)
    assert report.artefacts["front"] == str(tmp_path / "run" / "front")
    stored = evaluate(tmp_path / "run" / paths[0], "validation")
    assert stored.metrics


def test_estimators_are_kept_too(tmp_path: Path) -> None:
    report = tune(experiment(tmp_path, SKLEARN), out=tmp_path / "run")
    check(tmp_path / "run", report)


def test_a_front_of_estimators_ends_with_the_best_as_it_did(tmp_path: Path) -> None:
    """The best is taken from its file, in place of fitting it again; it is the same."""
    kept = tune(experiment(tmp_path, SKLEARN), out=tmp_path / "run")
    fitted = tune(experiment(tmp_path, SKLEARN, "tuning.objective=maximize validation.accuracy"))
    of = {row["model.max_leaf_nodes"]: row for row in records(fitted, "trials")}
    assert kept.best is not None
    same = of[kept.best["params"]["model.max_leaf_nodes"]]
    assert kept.best["metrics"]["validation.accuracy"] == same["validation.accuracy"]
    assert {"test.accuracy", "train.seconds"} <= set(kept.metrics)


def test_test_is_read_for_the_best_alone(tmp_path: Path) -> None:
    report = tune(experiment(tmp_path), out=tmp_path / "run")
    assert "test.accuracy" in report.metrics
    assert not any(name.startswith("test.") for name in report.tables["front"].columns)
    from modelopt_cli.models.files import checkpoints

    for row in records(report, "front"):
        held = checkpoints.load(tmp_path / "run" / row["checkpoint"]).metrics
        assert not any(name.startswith("test.") for name in held)


def test_an_interrupted_search_keeps_its_front_and_goes_on_with_it(tmp_path: Path) -> None:
    whole = tune(experiment(tmp_path), out=tmp_path / "whole")
    run, stop = tmp_path / "cut", StopFlag()

    def emit(event: Progress) -> None:
        if isinstance(event, TrialChanged) and event.trial.number == 4 and event.trial.state.finished:
            stop.set(2)

    with RunDirectory.create_at(run) as directory:
        report = workflow.run(experiment(tmp_path), Context(directory, emit, stop))
    assert report.status == "interrupted"
    check(run, report)
    report = tune(experiment(tmp_path), out=run, resume=True)
    check(run, report)
    assert records(report, "front") == records(whole, "front")


def test_with_one_objective_the_best_model_alone_is_kept(tmp_path: Path) -> None:
    chosen = "tuning.objective=minimize validation.loss"
    report = tune(experiment(tmp_path, TORCH, chosen), out=tmp_path / "run")
    assert report.best is not None
    assert [path.name for path in (tmp_path / "run" / ".models").glob("*.pt")] == [f"{report.best['seed']}.pt"]
    assert not (tmp_path / "run" / "front").exists()


def test_a_constraint_decides_before_the_objectives(tmp_path: Path) -> None:
    """Trials that miss it are not on the front, so that none of their models is kept once one meets it."""
    chosen = "tuning.constraints=['model.parameters >= 60']"
    report = tune(experiment(tmp_path, TORCH, chosen), out=tmp_path / "run")
    check(tmp_path / "run", report)
    assert all(row["model.parameters"] >= 60 for row in records(report, "front"))


def test_cross_validation_leaves_no_models(tmp_path: Path) -> None:
    report = tune(experiment(tmp_path, SKLEARN, "evaluation.cv=3"), out=tmp_path / "run")
    assert "checkpoint" not in report.tables["front"].columns
    assert not (tmp_path / "run" / "front").exists()
    assert "front" not in report.artefacts
