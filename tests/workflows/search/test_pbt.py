"""Population-based training from a file: the model, its schedule, what best.yaml is, what a search refuses."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from modelopt_cli import Experiment, Report, load, tune
from modelopt_cli.cli.render import search
from modelopt_cli.core.errors import ExperimentError, SearchError
from modelopt_cli.models.files import checkpoints
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.lineage import lineage
from modelopt_cli.workflows import replay
from modelopt_cli.workflows.runs.torch import TorchRun
from modelopt_cli.workflows.shared import data_cache
from modelopt_cli.workflows.shared.context import Context

FILE: dict[str, Any] = {
    "name": "population",
    "data": {"type": "iris"},
    "model": {"type": "mlp", "hidden": [8]},
    "training": {"epochs": 8, "batch_size": 16, "optimizer": {"type": "sgd", "lr": 0.001}, "schedule": "cosine"},
    "tuning": {
        "objective": "minimize validation.loss",
        "sampler": "random",
        "scheduler": {"type": "pbt", "interval": 2, "quantile": 0.34, "factors": [2.0, 4.0]},  # rates that are too low
        "trials": 5,
        "executor": "serial",
        "initial": [{"training.optimizer.lr": 0.002 + 0.001 * i, "training.optimizer.momentum": 0.1} for i in range(5)],
        "space": {
            "training.optimizer.lr": {"float": [1e-3, 0.3], "log": True},
            "training.optimizer.momentum": {"float": [0.1, 0.9]},
            "training.batch_size": [8, 16, 32],
            "model.hidden.0": {"int": [4, 16]},
        },
    },
}


def changed(section: str, **values: Any) -> dict[str, Any]:
    return {**FILE, section: {**FILE[section], **values}}


def rows(report: Report, name: str) -> list[dict[str, Any]]:
    table = report.tables[name]
    return table.records()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    path = tmp_path_factory.mktemp("pbt") / "run"
    return tune(load(FILE), out=path), path


def along(experiment: Experiment, legs: list[Any], end: int) -> TorchRun:
    """The lineage trained by hand."""
    state = None
    ends = [*(leg.born for leg in legs[1:]), end]
    for leg, until in zip(legs, ends, strict=True):
        setting = experiment.with_values(leg.params)
        leg_run = TorchRun(
            setting, data_cache.prepared_data(setting), seed=leg.seed, monitor="validation.loss", state=state
        )
        leg_run.advance(until)
        state = leg_run.state()
    return leg_run


@pytest.mark.slow
def test_the_model_is_what_its_lineage_trains(run: tuple[Report, Path]) -> None:
    report, path = run
    trials, _ = Study.read(path / "study.sqlite")
    assert report.best is not None
    best = trials[report.best["number"]]
    legs = lineage(trials, best)
    assert len(legs) > 1
    by_hand = along(load(FILE), legs, best.step)
    saved = checkpoints.load(path / "model.pt").model.state_dict()
    for name, value in by_hand.trainer.module.state_dict().items():
        assert torch.equal(saved[name].cpu(), value.cpu())
    for trial in trials:
        if trial.parent is not None:
            assert trial.params["model.hidden.0"] == trials[trial.parent].params["model.hidden.0"]
            measured = along(load(FILE), lineage(trials, trial), trial.step).metrics()
            assert measured["validation.loss"] == pytest.approx(trial.metrics["validation.loss"], rel=1e-6)


def test_the_schedule_is_a_table_a_file_and_a_text(run: tuple[Report, Path]) -> None:
    report, path = run
    schedule = rows(report, "schedule")
    assert report.best is not None
    assert [row["from_step"] for row in schedule] == [0, *(row["to_step"] for row in schedule[:-1])]
    assert schedule[-1]["to_step"] == 8
    assert schedule[-1]["trial"] == report.best["number"]
    last = {name: value for name, value in schedule[-1].items() if "." in name}
    assert last == report.best["params"]
    with (path / "schedule.csv").open() as table:
        assert [int(row["trial"]) for row in csv.DictReader(table)] == [row["trial"] for row in schedule]
    assert json.loads((path / "schedule.json").read_text()) == schedule
    trials = {row["trial"]: row for row in rows(report, "trials")}
    assert [trials[row["trial"]]["parent"] for row in schedule] == [None, *(row["trial"] for row in schedule[:-1])]
    stream = io.StringIO()
    search.render(Console(file=stream, width=120), report, quiet=False)
    text = stream.getvalue()
    assert f"schedule of the best trial: {len(schedule)} settings, one after the other" in text
    assert "importance for validation.loss: not known: trials went on from others' states" in text


def test_best_yaml_says_that_it_does_not_repeat_the_schedule(run: tuple[Report, Path]) -> None:
    report, path = run
    text = (path / "best.yaml").read_text()
    born = rows(report, "schedule")[-1]["from_step"]
    assert f"# These are the last settings of a model that had others before step {born}: see schedule.csv." in text
    assert yaml.safe_load(text)["training"]["epochs"] == 8
    assert any("trained from scratch give another model" in warning for warning in report.warnings)


def test_it_replays_and_a_lost_model_is_trained_along_its_lineage(run: tuple[Report, Path], tmp_path: Path) -> None:
    report, path = run
    details = replay.run(path, Context()).details
    assert details["agrees"]
    assert details["decisions"]["asked"] > 20
    shutil.copytree(path, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / ".models")
    again = tune(load(FILE), out=tmp_path / "copy", resume=True)
    assert again.best == report.best
    for name, value in again.metrics.items():
        if "seconds" not in name:
            assert value == pytest.approx(report.metrics[name], rel=1e-6), name


def test_a_state_that_does_not_fit_is_one_clear_failure() -> None:
    scheduler = {"type": "pbt", "interval": 1, "perturb": ["model.hidden.0"], "resample": 0.0, "quantile": 0.34}
    with pytest.raises(SearchError, match=r"the state that it goes on from does not fit its model: 'layers.*shape"):
        tune(load(changed("tuning", scheduler=scheduler, max_failures=2)))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (changed("tuning", refit="train+validation"), "several settings, one after the other, which no refit repeats"),
        (changed("tuning", repeats=True), "no setting can be tried again"),
        ({**FILE, "evaluation": {"cv": 3}}, "the steps of a cross-validation are whole trainings"),
        (changed("tuning", scheduler={"type": "pbt", "population": 4}), "population is 4 with tuning.trials 5"),
        (changed("tuning", scheduler={"type": "pbt", "perturb": ["x"]}), "perturb has 'x', which is not searched"),
        (changed("tuning", space={"model.hidden.0": [4, 8]}), "nothing can change while a model is trained"),
        (
            {**changed("tuning", workflow="prune"), "pruning": {"amount": 0.5}},
            "which the workflow prune cannot",
        ),
        (
            {
                **changed("tuning", space={"model.C": {"float": [0.1, 1]}}),
                "model": {"type": "sklearn", "estimator": "sklearn.svm.SVC"},
            },
            "sklearn is fitted in one step",
        ),
    ],
    ids=["refit", "repeats", "folds", "population", "perturb", "nothing to perturb", "workflow", "estimator"],
)
def test_what_it_cannot_do_is_told_before_anything_runs(file: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        load(file)


@pytest.mark.slow
@pytest.mark.parametrize("second", ["validation.accuracy", "validation.f1"])
@pytest.mark.parametrize("first", ["minimize validation.loss", "maximize validation.roc_auc"])
def test_members_are_compared_in_every_objective_whatever_their_order(first: str, second: str, tmp_path: Path) -> None:
    """Each epoch reports all of them: with one missing nobody would ever be replaced."""
    file = changed("tuning", objective=[first, f"maximize {second}"], trials=3, initial=FILE["tuning"]["initial"][:3])
    report = tune(load(file), out=tmp_path / "run")
    trials, _ = Study.read(tmp_path / "run" / "study.sqlite")
    assert all(point.losses is not None for trial in trials for point in trial.curve)
    assert "stopped" in {row["state"] for row in rows(report, "trials")}
