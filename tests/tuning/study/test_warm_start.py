"""Trials of earlier runs: which count, what they are worth here, and that nobody forgets them."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.core.errors import InputError, StorageError
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.store import Store
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.study.warm_start import EarlierRun, setting
from modelopt_cli.tuning.trials.trial import State
from tests.support.sampler_histories import NAMES

SPACE = {"x": {"float": [0, 1]}, "y": {"float": [0, 1]}}


def value(params: dict[str, Any]) -> float:
    return float((params["x"] - 0.7) ** 2 + (params["y"] - 0.2) ** 2)


def run(path: Path | None, space: dict[str, Any], count: int, **options: Any) -> Study:
    study = Study(space, path=path, **options)
    for _ in range(count):
        trial = study.ask()
        loss = value(trial.params)
        study.tell(trial, {"loss": loss, "cost": 1 - trial.params["x"]}, seconds=2.0)
    return study


def old(folder: Path, count: int = 20) -> Path:
    folder.mkdir(exist_ok=True)
    run(folder / "study.sqlite", SPACE, count, sampler="random", seed=5).close()
    return folder


def test_earlier_trials_are_known_and_are_no_trials(tmp_path: Path) -> None:
    study = Study(SPACE, "bayesian", earlier=[old(tmp_path)])
    known = study.warm_start.trials
    assert [trial.number for trial in known] == list(range(-20, 0))
    assert {trial.origin for trial in known} == {"earlier"}
    assert study.trials == ()
    assert study.best is None
    assert study.front == []
    first = [study.tell(trial := study.ask(), value(trial.params)).loss for _ in range(4)]
    assert min(loss for loss in first if loss is not None) < 0.02, "no initial points are spent"
    assert len(study.trials) == 4
    assert study.best is not None
    assert study.best.number >= 0


def test_losses_and_violations_are_those_of_the_new_study(tmp_path: Path) -> None:
    study = Study(
        SPACE, "tpe", ["maximize cost", "minimize loss"], constraints=["loss <= 0.1"], earlier=[old(tmp_path)]
    )
    trials, _ = Study.read(tmp_path / "study.sqlite")
    for known, trial in zip(study.warm_start.trials, trials, strict=True):
        assert known.params == trial.params
        assert known.losses == (-trial.metrics["cost"], trial.metrics["loss"])
        assert known.violation == pytest.approx(max(0.0, trial.metrics["loss"] - 0.1))
        assert (known.state, known.seconds) == (State.COMPLETED, 2.0)


def test_what_is_of_no_use_is_left_out_and_counted(tmp_path: Path) -> None:
    with Study(SPACE, "random", path=tmp_path / "study.sqlite") as before:
        for result in (1.0, math.nan, RuntimeError("no"), {"loss": 1.0, "cost": 3.0}):
            before.tell(before.ask(), result)
        before.ask()
    study = Study(SPACE, "tpe", "minimize cost", earlier=[tmp_path / "study.sqlite"])
    assert [trial.loss for trial in study.warm_start.trials] == [3.0]
    assert sum(study.warm_start.left_out.values()) == 4
    assert study.warm_start.left_out["failed or not finished"] == 3
    assert "1 trials of earlier runs are known to the sampler; 1 left out: the objective's metric 'cost'" in (
        study.warm_start.text()
    )
    narrow = Study({"x": {"float": [0, 1]}, "y": {"float": [5, 6]}}, "tpe", earlier=[tmp_path])
    assert not narrow.warm_start.trials
    assert narrow.warm_start.left_out["no setting of this space"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_study_goes_on_the_same_when_the_earlier_run_is_gone(name: str, tmp_path: Path) -> None:
    if name == "grid":
        pytest.skip("a grid lists its points, whatever is known")
    folder = old(tmp_path / "old")
    whole = run(None, SPACE, 6, sampler=name, earlier=[folder])
    with run(tmp_path / "new.sqlite", SPACE, 2, sampler=name, earlier=[folder]):
        pass
    with Study(SPACE, name, path=tmp_path / "new.sqlite", earlier=[folder]):
        run(folder / "study.sqlite", SPACE, 9, sampler="random", seed=5).close()  # it has grown
    shutil.rmtree(folder)
    with Study.open(tmp_path / "new.sqlite") as study:
        assert [trial.params for trial in study.warm_start.trials] == [t.params for t in whole.warm_start.trials]
        for _ in range(4):
            trial = study.ask()
            study.tell(trial, {"loss": value(trial.params), "cost": 1 - trial.params["x"]}, seconds=2.0)
        assert [trial.params for trial in study.trials] == [trial.params for trial in whole.trials]


def test_a_list_is_tried_from_its_beginning_and_others_waste_nothing(tmp_path: Path) -> None:
    space = {"k": {"int": [0, 5]}}
    with Study(space, "grid", path=tmp_path / "study.sqlite") as before:
        for _ in range(3):
            before.tell(trial := before.ask(), float(trial.params["k"]))
    grid = Study(space, "grid", earlier=[tmp_path])
    assert [grid.ask().params["k"] for _ in range(6)] == list(range(6))
    random = Study(space, "random", earlier=[tmp_path])
    assert {random.ask().params["k"] for _ in range(3)} == {3, 4, 5}, "new ones first"
    assert {random.ask().params["k"] for _ in range(3)} == {0, 1, 2}, "an old one is not forbidden"


def test_a_run_that_is_not_there_and_a_damaged_store_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Study(SPACE, earlier=[tmp_path])
    Study(SPACE, "random", path=tmp_path / "s", earlier=[old(tmp_path)]).close()
    store = Store(tmp_path / "s")
    store.set_meta({"earlier": {"trials": [{"queued": 1}], "left_out": {}}})
    store.close()
    with pytest.raises(StorageError, match="damaged"):
        Study.open(tmp_path / "s")


SECTIONS = Space.from_spec(
    {
        "lr": {"float": [0, 1]},
        "opt": {"choice": [{"type": "sgd", "m": {"float": [0, 1]}}, {"type": "adam", "betas": [0.9, 0.999]}]},
    }
)
FILE = {"lr": 0.5, "epochs": 5, "opt.m": 0.25, "opt": {"type": "sgd", "m": 0.25, "decay": 0}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"opt": {"type": "sgd"}, "opt.m": 0.75}, {"lr": 0.5, "opt": {"type": "sgd"}, "opt.m": 0.75}),
        ({"opt": {"type": "sgd", "m": 0.75}, "lr": 0.1}, {"lr": 0.1, "opt": {"type": "sgd"}, "opt.m": 0.75}),
        ({"lr": 0.1}, {"lr": 0.1, "opt": {"type": "sgd"}, "opt.m": 0.25}),
        ({"opt.m": 0.75}, {"lr": 0.5, "opt": {"type": "sgd"}, "opt.m": 0.75}),
        ({"lr": 0.1, "epochs": 5.0}, {"lr": 0.1, "opt": {"type": "sgd"}, "opt.m": 0.25}),
        ({"lr": 0.1, "epochs": 6}, None),
        ({"lr": 2.0}, None),
        ({"lr": 0.1, "unknown": 1}, None),
        (
            {"opt": {"type": "adam"}, "opt.betas": [0.9, 0.999]},
            {"lr": 0.5, "opt": {"type": "adam", "betas": [0.9, 0.999]}},
        ),
        ({"opt": {"type": "adam"}, "opt.betas": [0.8, 0.999]}, None),
        ({"opt": {"type": "adam", "betas": [0.9, 0.999]}, "opt.eps": 0.1}, None),
        ({"opt": {"type": "lbfgs"}}, None),
    ],
)
def test_what_an_earlier_setting_is_here(given: dict[str, Any], expected: dict[str, Any] | None) -> None:
    params = setting(SECTIONS, given, EarlierRun((), FILE.__getitem__, FILE.__getitem__))
    assert params == ("no setting of this space" if expected is None else expected)


def test_the_files_of_both_runs_count_for_what_was_not_searched() -> None:
    space = Space.from_spec({"lr": {"float": [0, 1]}, "m": {"float": [0, 1]}})
    then, now = {"m": 0.1}, {"m": 0.9, "n": 3}
    assert setting(space, {"lr": 0.5}, EarlierRun((), then.__getitem__, now.__getitem__)) == {"lr": 0.5, "m": 0.1}
    assert setting(space, {"lr": 0.5, "n": 3}, EarlierRun((), dict[str, Any]().__getitem__, now.__getitem__)) == {
        "lr": 0.5,
        "m": 0.9,
    }
    assert setting(space, {"lr": 0.5}, EarlierRun(())) == "no setting of this space: nothing says what m was"


def test_what_a_file_leaves_out_is_as_its_own_default_has_it() -> None:
    space = Space.from_spec({"s.C": {"float": [0, 9]}, "s.shrinking": [True, False]})

    def default(path: str, get: Any) -> Any:
        section, _, name = path.rpartition(".")
        return {"svc": {"shrinking": True}, "other": {}}[get(f"{section}.estimator")][name]

    def source(then: dict[str, Any], now: dict[str, Any]) -> EarlierRun:
        return EarlierRun((), then.__getitem__, now.__getitem__, default)

    svc, other = {"s.estimator": "svc"}, {"s.estimator": "other"}
    known = {"s.C": 1.0, "s.shrinking": True}
    assert setting(space, {"s.C": 1.0}, source(svc, svc)) == known
    assert setting(space, {"s.C": 1.0}, source(svc, {**svc, "s.shrinking": False})) == known, "its own file counts"
    refused = "no setting of this space: nothing says what s.shrinking was"
    assert setting(space, {"s.C": 1.0}, source(other, other)) == refused
    fewer = Space.from_spec({"s.C": {"float": [0, 9]}})
    assert setting(fewer, known, source(svc, svc)) == {"s.C": 1.0}
    assert setting(fewer, {**known, "s.shrinking": False}, source(svc, svc)) == "no setting of this space"
