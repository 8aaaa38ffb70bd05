"""What workflows tell their loggers: a run with its curve and result, a search with its trials, seeds as children."""

from __future__ import annotations

import signal
from collections import defaultdict, deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.api import Experiment
from modelopt_cli.core.errors import SearchError, UsageError
from modelopt_cli.results.loggers import OWN, Begun, Ended, Location, Logger, Points
from modelopt_cli.results.report import Report
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.workflows import distill, prune, train, tune
from modelopt_cli.workflows.shared import costs, run_logging
from modelopt_cli.workflows.shared.context import Context, EpochEnded, Progress, StopFlag, TrialChanged, Workflow

BASE: dict[str, Any] = {
    "name": "n",
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [8]},
    "training": {"epochs": 3, "batch_size": 32, "optimizer": {"type": "adam", "lr": 0.01}},
    "loggers": ["tensorboard"],
    "gates": ["test.accuracy >= 0"],
}
SEARCH: dict[str, Any] = {
    "objective": "maximize validation.accuracy",
    "sampler": "random",
    "trials": 4,
    "executor": "serial",
    "space": {"training.optimizer.lr": {"float": [0.001, 0.1]}},
}


class Recorder:
    """In a delivery's location: keeps the records, sorted by run."""

    made: list[Recorder]

    def __init__(self, logger: Logger, location: Location) -> None:
        self.name, self.where, self.location = logger.name(), f"look at {location.title}", location
        self.warnings: deque[str] = deque()
        self.records: list[Begun | Points | Ended] = []
        self.limit: float | None = -1.0
        self.made.append(self)

    def put(self, record: Begun | Points | Ended) -> None:
        self.records.append(record)

    def close(self, limit: float | None = None) -> None:
        assert not any(isinstance(record, Ended) for record in self.records[:-1] if record.run == OWN)
        self.limit = limit


@pytest.fixture(autouse=True)
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    Recorder.made = []
    monkeypatch.setattr(run_logging, "Delivery", Recorder)
    monkeypatch.setattr(Logger, "check", lambda self: None)
    monkeypatch.setattr(costs, "SECONDS", 0.01)
    return Recorder.made


def by_run(recorder: Recorder) -> dict[str, list[Begun | Points | Ended]]:
    runs = defaultdict(list)
    for record in recorder.records:
        runs[record.run].append(record)
    return runs


def curve_of(records: list[Begun | Points | Ended], metric: str) -> dict[int, float]:
    points = [point for record in records if isinstance(record, Points) for point in record.points]
    assert [step for step, _ in points] == sorted(step for step, _ in points)
    return {step: metrics[metric] for step, metrics in points if metric in metrics}


def end_of(records: list[Begun | Points | Ended]) -> Ended:
    (end,) = (record for record in records if isinstance(record, Ended))
    assert records[-1] is end
    return end


def begin_of(records: list[Begun | Points | Ended]) -> Begun:
    (begin,) = (record for record in records if isinstance(record, Begun))
    assert records[0] is begin
    return begin


def ran(workflow: Workflow, changes: dict[str, Any], folder: Path | None = None, **given: Any) -> Report:
    experiment = Experiment.load({**BASE, **changes})
    if folder is None:
        return workflow.run(experiment, Context(**given))
    with RunDirectory.create_at(folder, resume=given.get("resume", False)) as directory:
        return workflow.run(experiment, Context(directory, **given))


@pytest.mark.slow
def test_a_training(tmp_path: Path, recorders: list[Recorder]) -> None:
    events: list[Progress] = []
    report = ran(train, {}, tmp_path / "n" / "7", emit=events.append)
    (recorder,) = recorders
    assert recorder.location == Location("n", "n/7", tmp_path / "n" / "7", tmp_path)
    assert recorder.limit is None
    records = by_run(recorder)[OWN]
    settings = begin_of(records).settings
    assert settings["training.optimizer.lr"] == 0.01
    assert settings["model.hidden"] == "[8]"
    assert not any(name.startswith("loggers") for name in settings)
    epochs = {event.step: event.metrics["train.loss"] for event in events if isinstance(event, EpochEnded)}
    assert curve_of(records, "train.loss") == epochs
    end = end_of(records)
    assert end.status == "completed"
    assert end.metrics == {f"final/{name}": value for name, value in report.metrics.items()}
    assert end.files == {name: report.artefacts[name] for name in ("report", "page", "model")}
    assert end.tags["modelopt.gate.1"].startswith("test.accuracy >= 0: met")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_has_a_child_for_each_trial(recorders: list[Recorder], workers: int) -> None:
    events: list[Progress] = []
    executor = {"executor": "serial"} if workers == 1 else {"executor": "processes", "workers": 2}
    report = ran(tune, {"tuning": {**SEARCH, **executor}}, emit=events.append)
    runs = by_run(recorders[0])
    assert set(runs) == {OWN, *(f"trial-{number}" for number in range(4))}
    trials = {event.trial.number: event.trial for event in events if isinstance(event, TrialChanged)}
    for number, trial in trials.items():
        records = runs[f"trial-{number}"]
        assert begin_of(records).settings == trial.params
        assert curve_of(records, "validation.loss") == {
            point.step: point.metrics["validation.loss"] for point in trial.curve
        }
        end = end_of(records)
        assert end.metrics == {
            **{f"final/{name}": value for name, value in trial.metrics.items()},
            "final/seconds": trial.seconds,
        }
        assert (end.status, end.tags["modelopt.state"]) == ("completed", "completed")
    best = curve_of(runs[OWN], "best/validation.accuracy")
    assert list(best) == [1, 2, 3, 4]
    assert best[4] == max(trial.metrics["validation.accuracy"] for trial in trials.values())
    assert curve_of(runs[OWN], "trials/completed") == {1: 1, 2: 2, 3: 3, 4: 4}
    assert end_of(runs[OWN]).metrics["final/test.accuracy"] == report.metrics["test.accuracy"]
    assert report.best is not None
    assert end_of(runs[OWN]).tags["modelopt.best_trial"] == f"trial-{report.best['number']}"


@pytest.mark.slow
def test_stopped_and_failed_trials_say_so(recorders: list[Recorder]) -> None:
    space = {"training.optimizer.lr": [0.01, 1e30, 0.02]}
    search = {**SEARCH, "space": space, "sampler": "grid", "trials": 3}
    ran(tune, {"tuning": search})
    ends = [end_of(records) for run, records in by_run(recorders[0]).items() if run != OWN]
    failed = [end for end in ends if end.status == "failed"]
    assert failed
    assert all(end.reason for end in failed)
    assert curve_of(by_run(recorders[0])[OWN], "trials/failed")


@pytest.mark.slow
def test_a_search_that_fails_ends_as_failed(recorders: list[Recorder]) -> None:
    space = {"training.optimizer.lr": [1e30, 1e31]}
    with pytest.raises(SearchError):
        ran(tune, {"tuning": {**SEARCH, "space": space, "sampler": "grid", "trials": 2}})
    end = end_of(by_run(recorders[0])[OWN])
    assert end.status == "failed"
    assert "every trial failed" in end.reason


def test_a_run_that_is_refused_leaves_no_trace(recorders: list[Recorder]) -> None:
    with pytest.raises(UsageError):
        ran(train, {"model": {"type": "sklearn", "estimator": "Ridge"}})
    assert recorders == []


@pytest.mark.slow
def test_a_search_goes_on_and_catches_up(tmp_path: Path, recorders: list[Recorder]) -> None:
    stop = StopFlag()

    def stop_soon(event: Progress) -> None:
        if isinstance(event, TrialChanged) and event.trial.number == 1 and event.trial.curve:
            stop.set(signal.SIGINT)

    ran(tune, {"tuning": SEARCH}, tmp_path / "run", emit=stop_soon, stop=stop)
    first = by_run(recorders[0])
    assert end_of(first[OWN]).status == "interrupted"
    assert recorders[0].limit is not None
    ran(tune, {"tuning": SEARCH}, tmp_path / "run", resume=True)
    second = by_run(recorders[1])
    assert set(second) == {OWN, *(f"trial-{number}" for number in range(4))}  # earlier trials too: a journal knows them
    assert curve_of(second[OWN], "trials/completed")[4] == 4
    assert all(end_of(records).status == "completed" for records in second.values())


@pytest.mark.slow
def test_each_seed_is_a_child(recorders: list[Recorder]) -> None:
    report = ran(train, {"seeds": 2})
    runs = by_run(recorders[0])
    assert set(runs) == {OWN, "seed-0", "seed-1"}
    rows = report.records("seeds")
    for number in (0, 1):
        records = runs[f"seed-{number}"]
        assert begin_of(records).settings == {"seed": number}
        assert list(curve_of(records, "train.loss")) == [1, 2, 3]
        assert end_of(records).metrics["final/test.accuracy"] == rows[number]["test.accuracy"]
    assert end_of(runs[OWN]).metrics["final/test.accuracy"] == report.metrics["test.accuracy"]
    assert end_of(runs[OWN]).tags["modelopt.gate.1"]


@pytest.mark.slow
def test_a_pruning_and_a_distillation(recorders: list[Recorder]) -> None:
    report = ran(prune, {"pruning": {"amount": 0.5}})
    records = by_run(recorders[0])[OWN]
    assert list(curve_of(records, "validation.accuracy"))
    assert end_of(records).metrics["final/pruning.sparsity"] == report.metrics["pruning.sparsity"]
    teacher = {"model": {"type": "mlp", "hidden": [16]}, "training": {"epochs": 2}}
    report = ran(distill, {"distillation": {"teacher": teacher, "baseline": True}})
    records = by_run(recorders[1])[OWN]
    for name in ("teacher", "student alone", "student"):
        assert curve_of(records, f"{name}/validation.accuracy"), name
    assert end_of(records).metrics["final/test.accuracy"] == report.metrics["test.accuracy"]


@pytest.mark.slow
def test_what_goes_wrong_is_a_warning_of_the_report(
    tmp_path: Path, recorders: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "close", lambda self, limit=None: self.warnings.append("it is gone"))
    report = ran(train, {}, tmp_path / "run")
    assert report.model is not None
    assert "tensorboard: it is gone" in report.warnings
    assert "tensorboard: it is gone" in Report.model_validate_json((tmp_path / "run/report.json").read_text()).warnings


@pytest.mark.slow
def test_values_from_the_environment_stay_out(recorders: list[Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_FOLDER", "secret-folder")
    file = {**BASE, "evaluation": {"folder": "${SECRET_FOLDER}"}}
    experiment = Experiment.load(file)
    train.run(experiment, Context())
    assert "secret-folder" not in str([asdict(record) for record in recorders[0].records])
