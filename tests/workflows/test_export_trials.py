"""A search's trials in Optuna's hands: what Optuna reads there is what the search's own log holds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from modelopt_cli.core.errors import InputError, UsageError
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import State
from modelopt_cli.workflows.export_trials import run

SPACE: dict[str, Any] = {
    "lr": {"float": [1e-4, 1.0], "log": True},
    "momentum": {"float": [0.0, 1.0], "step": 0.3},
    "width": {"int": [8, 64], "log": True},
    "layers": {"int": [1, 9], "step": 3},
    "hidden": [[8], [16, 8]],
    "bias": [True, False],
    "one": [1, True, "1"],
    "optimizer": {
        "choice": [
            {"type": "sgd", "decay": {"float": [0.0, 1.0]}},
            {"type": "adam", "decay": {"choice": ["none", "much"]}},
        ]
    },
}

pytestmark = pytest.mark.slow


def searched(folder: Path, objective: str | list[str] = "minimize loss", **options: Any) -> Path:
    """A run's folder with a study of 27 trials in all states."""
    folder.mkdir(parents=True)
    with Study(SPACE, "random", objective, path=folder / "study.sqlite", **options) as study:
        for index in range(24):
            trial = study.ask()
            loss = abs(math.log10(trial.params["lr"]) + 2) + 0.01 * trial.params["width"]
            metrics = {"loss": loss, "size": float(trial.params["width"]), "undefined": math.nan}
            for step in range(1, 4):
                study.report(trial, step, {**metrics, "loss": loss + 1 / step})
            if index % 6 == 4:
                study.tell(trial, {**metrics, "loss": loss + 9}, stopped="worse than the median", seconds=1.5)
            elif index % 6 == 5:
                study.tell(trial, RuntimeError("<b>broken</b>"))
            else:
                study.tell(trial, metrics)
        study.pause(study.ask())
        study.ask()
        study.queue(dict(study.trials[3].params, lr=0.5))
    return folder


def exported(folder: Path, tmp_path: Path) -> tuple[optuna.Study, list[Any], Any]:
    report = run(folder, tmp_path / "out.db")
    study = optuna.load_study(study_name=report.details["study"], storage=f"sqlite:///{tmp_path / 'out.db'}")
    trials, _ = Study.read(folder / "study.sqlite")
    return study, trials, report


def test_every_trial_is_as_the_log_has_it(tmp_path: Path) -> None:
    study, trials, _ = exported(searched(tmp_path / "quick" / "3"), tmp_path)
    assert study.study_name == "quick/3"
    states = {
        State.COMPLETED: TrialState.COMPLETE,
        State.STOPPED: TrialState.PRUNED,
        State.FAILED: TrialState.FAIL,
        State.PAUSED: TrialState.RUNNING,
        State.RUNNING: TrialState.RUNNING,
        State.QUEUED: TrialState.WAITING,
    }
    assert {trial.state for trial in trials} == set(states)
    for ours, theirs in zip(trials, study.trials, strict=True):
        assert (theirs.number, theirs.state) == (ours.number, states[ours.state])
        assert theirs.values == (None if ours.losses is None else list(ours.losses))
        assert theirs.intermediate_values == {point.step: point.metrics["loss"] for point in ours.curve}
        for name in ("lr", "momentum", "width", "layers", "bias"):
            assert theirs.params[name] == ours.params[name]
        assert theirs.params["hidden"] == str(ours.params["hidden"])
        assert theirs.params["optimizer"] == f'{{"type": "{ours.params["optimizer"]["type"]}"}}'
        assert theirs.params["one"] == json.dumps(ours.params["one"])
        decay = f"optimizer.decay [optimizer = {ours.params['optimizer']['type']}]"
        assert theirs.params[decay] == ours.params["optimizer.decay"]
        assert len(theirs.params) == len(ours.params)  # conditional ones where they count only
        assert theirs.user_attrs["seed"] == ours.seed
        assert theirs.user_attrs["state"] == str(ours.state)
        assert theirs.user_attrs.get("reason", "") == ours.reason
        if ours.metrics:
            assert theirs.user_attrs["size"] == ours.metrics["size"]
            assert theirs.user_attrs["undefined"] == "nan"
        assert (theirs.datetime_start is None) == (ours.state is State.QUEUED)
        assert (theirs.datetime_complete is not None) == ours.state.finished
    distributions = study.trials[0].distributions
    assert distributions["lr"] == FloatDistribution(1e-4, 1.0, log=True)
    assert distributions["momentum"] == FloatDistribution(0.0, 0.9, step=0.3)
    assert distributions["width"] == IntDistribution(8, 64, log=True)
    assert distributions["layers"] == IntDistribution(1, 7, step=3)
    assert distributions["hidden"] == CategoricalDistribution(("[8]", "[16, 8]"))
    assert distributions["bias"] == CategoricalDistribution((True, False))
    assert distributions["one"] == CategoricalDistribution(("1", "true", '"1"'))


@pytest.mark.parametrize("constraints", [[], ["size <= 20", "size > 9"]])
def test_the_best_trial_is_the_searchs_own(tmp_path: Path, constraints: list[str]) -> None:
    folder = searched(tmp_path / "run", constraints=constraints)
    study, trials, report = exported(folder, tmp_path)
    with Study.open(folder / "study.sqlite") as own:
        assert own.best is not None
        assert study.best_trial.number == own.best.number
        assert study.best_value == own.best.loss
    assert report.details["best"] == report.details["best_there"] == [study.best_trial.number]
    assert report.warnings == []
    for ours, theirs in zip(trials, study.trials, strict=True):
        if ours.losses is not None:
            assert (max(theirs.constraints.values(), default=0.0) > 0) == (ours.violation > 0)
        assert len(theirs.constraints) == (len(constraints) if ours.losses is not None else 0)


def test_a_front_is_the_searchs_own(tmp_path: Path) -> None:
    folder = searched(tmp_path / "run", ["maximize loss", "minimize size"], constraints=["size <= 40"])
    study, _, report = exported(folder, tmp_path)
    with Study.open(folder / "study.sqlite") as own:
        front = [trial.number for trial in own.front if trial.state is State.COMPLETED]
        stopped = [trial.number for trial in own.front if trial.state is State.STOPPED]
    assert study.directions == [optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE]
    assert study.metric_names == ["loss", "size"]
    assert {*front} <= {trial.number for trial in study.best_trials}
    assert bool(stopped) == bool(report.warnings)


def test_where_optunas_best_is_another_one_the_report_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with Study({"x": {"float": [0.0, 1.0]}}, "random", path=folder / "study.sqlite") as study:
        study.tell(study.ask(), 2.0)
        study.tell(study.ask(), 1.0, stopped="no better for long")
    (warning,) = run(folder, tmp_path / "a.db").warnings
    assert "best here: 1; best for Optuna: 0 (some of the best were stopped early" in warning
    folder = tmp_path / "infeasible"
    folder.mkdir()
    with Study(
        {"x": {"float": [0.0, 1.0]}}, "random", path=folder / "study.sqlite", constraints=["loss <= 0"]
    ) as study:
        study.tell(study.ask(), 2.0)
    (warning,) = run(folder, tmp_path / "b.db").warnings
    assert "best here: 0; best for Optuna: none (no trial meets the constraints" in warning


def test_whole_numbers_that_optuna_cannot_hold_stand_beside(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with Study({"draw": {"int": [0, 2**60]}, "x": [1, 2]}, "random", path=folder / "study.sqlite") as study:
        params = study.ask().params
    loaded, _, _ = exported(folder, tmp_path)
    assert loaded.trials[0].params == {"x": params["x"]}
    assert loaded.trials[0].user_attrs["draw"] == params["draw"]


def test_a_running_search_can_be_exported_and_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with Study({"x": {"float": [0.0, 1.0]}}, "random", path=folder / "study.sqlite") as study:
        trial = study.ask()
        report = run(folder, tmp_path / "out.db")
        assert report.details["states"] == {"running": 1}
        study.tell(trial, 0.5)
        assert run(folder, tmp_path / "out.db", force=True).details["states"] == {"complete": 1}


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    folder = searched(tmp_path / "run")
    (tmp_path / "there.db").write_text("mine")
    with pytest.raises(UsageError, match="exists; choose another file"):
        run(folder, tmp_path / "there.db")
    assert (tmp_path / "there.db").read_text() == "mine"
    with pytest.raises(UsageError, match="is a folder"):
        run(folder, tmp_path)
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "report.json").write_text('{"workflow": "train"}')
    with pytest.raises(InputError, match="is a run of modelopt train, and only a search has trials"):
        run(tmp_path / "trained", tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()
