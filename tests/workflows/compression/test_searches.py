"""Searches over compressions: trials share stages, report the same whoever made them, and can be run again alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from modelopt_cli.core.errors import ExperimentError
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.models.files import checkpoints
from modelopt_cli.results.report import Report
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.workflows import compress, tune
from modelopt_cli.workflows.factory import open_compression
from modelopt_cli.workflows.shared.context import Context, Progress, StopFlag, TrialChanged
from tests.workflows.compression.test_compress import BASE, DISTILLATION

pytestmark = pytest.mark.usefixtures("quick")
WANTED = ["validation.accuracy", "model.macs"]


def load(space: dict[str, Any], **sections: Any) -> Experiment:
    tuning = {
        "workflow": "compress",
        "objective": ["maximize validation.accuracy", "minimize model.macs"],
        "sampler": "random",
        "executor": "serial",
        "trials": 4,
        "space": space,
        **sections.pop("tuning", {}),
    }
    return Experiment.load({**BASE, "distillation": DISTILLATION, **sections, "tuning": tuning})


def search(experiment: Experiment, out: Path, stop_at: int | None = None, resume: bool = False) -> Report:
    stop = StopFlag()

    def emit(event: Progress) -> None:
        if isinstance(event, TrialChanged) and event.trial.number == stop_at and event.trial.state.finished:
            stop.set(2)

    with RunDirectory.create_at(out, resume=resume, workflow="tune") as directory:
        return tune.run(experiment, Context(directory, emit, stop, resume))


@pytest.mark.slow
def test_a_search_over_prunings_trains_teacher_and_student_once(tmp_path: Path) -> None:
    report = search(load({"pruning.amount": {"float": [0.1, 0.8]}}), tmp_path / "run")
    assert len(list((tmp_path / "run" / ".stages").glob("*/stage.json"))) == 2
    assert not list((tmp_path / "run" / ".stages").glob("trial-*"))
    curves = {row["trial"]: row["step"] for row in report.records("curves")}
    assert set(curves.values()) == {1 + 2}  # the pruning and its recovery: nothing that was done before


def test_a_trial_reports_the_same_whoever_trained_its_student(tmp_path: Path) -> None:
    experiment = load({"model.hidden.0": {"int": [8, 32]}}, tuning={"stopper": "asha"})
    open_compression(experiment, 0, wanted=WANTED, folder=tmp_path).advance(2)  # the teacher is there
    runs = []
    for _ in range(2):
        run = open_compression(experiment, 7, wanted=WANTED, folder=tmp_path, left_out=1)
        runs.append((run.advance(run.total), dict(run.metrics())))
        run.discard()
    (first, metrics), (again, same) = runs
    assert [step for step, _ in first] == [step for step, _ in again] == [1, 2, 3, 4, 5, 6]
    assert first[:3] == again[:3]
    assert all(row["model.macs"] for _, row in first)
    assert [row["validation.accuracy"] for _, row in first] == [row["validation.accuracy"] for _, row in again]
    assert {name: metrics[name] for name in WANTED} == {name: same[name] for name in WANTED}


def test_a_trial_that_is_stopped_while_it_repeats_a_stage_counts_as_of_its_last_report(tmp_path: Path) -> None:
    """Its student is there and trained out, but it was stopped by what that student was after so many steps."""
    experiment = load({"model.hidden.0": {"int": [8, 32]}})
    first = open_compression(experiment, 0, wanted=WANTED, folder=tmp_path)
    first.advance(first.total)
    run = open_compression(experiment, 7, wanted=WANTED, folder=tmp_path, left_out=1)
    reports = run.advance(1)
    assert {name: run.metrics()[name] for name in WANTED} == {name: reports[-1][1][name] for name in WANTED}
    assert not run.keepable
    resumed = open_compression(experiment, 7, wanted=WANTED, state=run.state(), folder=tmp_path, left_out=1)
    assert resumed.metrics() == run.metrics()
    run.advance(run.total)
    assert run.keepable


@pytest.mark.parametrize("step", range(1, 7))
def test_a_trial_goes_on_from_its_state_at_every_step(tmp_path: Path, step: int) -> None:
    experiment = load({"model.hidden.0": {"int": [8, 32]}})
    whole = open_compression(experiment, 1, wanted=WANTED, folder=tmp_path / "a", left_out=1)
    expected = whole.advance(whole.total)
    begun = open_compression(experiment, 1, wanted=WANTED, folder=tmp_path / "b", left_out=1)
    reports = begun.advance(step)
    rest = open_compression(experiment, 1, wanted=WANTED, state=begun.state(), folder=tmp_path / "b", left_out=1)
    assert rest.step == step
    reports += rest.advance(rest.total)
    assert [each for each, _ in reports] == [each for each, _ in expected]
    for (_, one), (_, other) in zip(reports, expected, strict=True):
        assert one.get("validation.accuracy") == other.get("validation.accuracy")
    assert rest.metrics()["validation.loss"] == whole.metrics()["validation.loss"]


@pytest.mark.slow
def test_the_best_setting_run_alone_gives_the_same_model(tmp_path: Path) -> None:
    space = {"pruning.amount": {"float": [0.1, 0.8]}, "model.hidden.0": {"int": [8, 32]}}
    report = search(load(space), tmp_path / "run")
    best = Experiment.load(tmp_path / "run" / "best.yaml")
    alone = compress.run(best, Context())
    kept = checkpoints.load(report.artefacts["model"]).model.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in alone.model.model.state_dict().items())
    for name in ("validation.accuracy", "test.accuracy", "test.accuracy_drop", "model.macs_ratio"):
        assert alone.metrics[name] == report.metrics[name]


@pytest.mark.slow
def test_a_search_goes_on_to_the_same_end(tmp_path: Path) -> None:
    experiment = load({"pruning.amount": {"float": [0.1, 0.8]}, "model.hidden.0": {"int": [8, 32]}})
    whole = search(experiment, tmp_path / "whole")
    assert search(experiment, tmp_path / "half", stop_at=1).status == "interrupted"
    rest = search(experiment, tmp_path / "half", resume=True)
    assert rest.status == "completed"
    columns = ["state", "validation.accuracy", "model.macs", "model.hidden.0", "pruning.amount"]
    assert [[row[name] for name in columns] for row in rest.records("trials")] == [
        [row[name] for name in columns] for row in whole.records("trials")
    ]


@pytest.mark.slow
def test_worker_processes_give_what_one_process_gives(tmp_path: Path) -> None:
    space = {"pruning.amount": {"float": [0.1, 0.8]}, "distillation.losses.0.weight": {"float": [0.1, 0.9]}}
    losses = {"losses": [{"type": "labels", "weight": 0.5}, {"type": "soft_targets", "weight": 0.5}]}
    sections = {"distillation": {**DISTILLATION, **losses}}
    serial = search(load(space, **sections), tmp_path / "one")
    tuning = {"executor": "processes", "workers": 2}
    several = search(load(space, **sections, tuning=tuning), tmp_path / "two")
    values = [
        sorted(
            (row["pruning.amount"], row["validation.accuracy"], row["model.macs"]) for row in report.records("trials")
        )
        for report in (serial, several)
    ]
    assert values[0] == values[1]


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        ({"repeats": True, "objective": "maximize validation.accuracy"}, "share the experiment's seed"),
        ({"objective": "maximize validation.acuracy"}, "validation.accuracy"),
        ({"space": {"pipeline": [["train"]]}}, "a search cannot change 'pipeline'"),
    ],
)
def test_what_a_search_over_compressions_cannot_have(tuning: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError) as error:
        load({"pruning.amount": {"float": [0.1, 0.8]}}, tuning=tuning)
    assert message in " ".join(str(error.value).split())
