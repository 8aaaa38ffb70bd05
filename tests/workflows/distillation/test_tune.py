"""Searches over distillations: teachers are trained once, and best.yaml repeats the best trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.results.report import Report
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.workflows import tune
from modelopt_cli.workflows.distillation.run import DistillRun
from modelopt_cli.workflows.shared.context import Context
from tests.support.distill_cases import (
    BASE,
    SOFT,
    TEACHER,
    assert_same,
    distilled,
    experiment,
    learners,
    rows,
    state,
    timed,
)

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the jobs whose training began, in that order."""
    names: list[str] = []
    opened = DistillRun._open  # private: whom a search trains once, or again, is not to be seen from outside

    def counted(self: DistillRun, state: Any = None) -> Any:
        names.append(self.doing)
        return opened(self, state)

    monkeypatch.setattr(DistillRun, "_open", counted)
    return names


TEMPERATURE = {"distillation.losses.1.temperature": {"float": [1.0, 20.0], "log": True}}


def searched(out: Path, space: dict[str, Any], section: dict[str, Any] | None = None, **tuning: Any) -> Report:
    options = {"objective": "maximize validation.accuracy", "sampler": "random", "trials": 4, "executor": "serial"}
    losses = {"losses": [SOFT[0], {**SOFT[1], "temperature": 4.0}]}
    chosen = experiment(
        {"teacher": TEACHER, **losses, **(section or {})},
        tuning={**options, "workflow": "distill", "space": space, **tuning},
    )
    with RunDirectory.create_at(out) as directory:
        return tune.run(chosen, Context(directory=directory))


def repeated(out: Path) -> Report:
    """best.yaml, run by itself."""
    return distilled(Experiment.load(out / "best.yaml"), out.parent / f"{out.name}-again")


def assert_repeats(out: Path, report: Report) -> None:
    again = repeated(out)
    assert report.best is not None
    for name, value in report.best["metrics"].items():
        if not timed(name) and name.startswith(("validation.", "model.p")):
            assert again.metrics[name] == value, name
    for name in ("test.loss", "test.accuracy"):
        assert again.metrics[name] == report.metrics[name]
    assert_same(state(out / "model.pt"), state(out.parent / f"{out.name}-again" / "model.pt"))


@pytest.mark.slow
def test_the_teacher_is_trained_once_for_all_trials(tmp_path: Path, trained: list[str]) -> None:
    report = searched(tmp_path / "run", TEMPERATURE)
    assert trained.count("teacher") == 1
    assert trained.count("student") == 4
    assert trained.count("student alone") == 1, "for the report of the best alone"
    assert (tmp_path / "run/teacher.pt").exists()
    trained.clear()
    assert_repeats(tmp_path / "run", report)
    assert "teacher" not in trained
    assert {"learners", "trials"} <= set(report.tables)


def test_the_baseline_is_trained_where_the_gap_is_wanted(tmp_path: Path, trained: list[str]) -> None:
    """A teacher that is better than the student alone, which learns next to nothing in an epoch."""
    teacher = {**TEACHER, "training": {**TEACHER["training"], "epochs": 8}}
    objective = {"objective": "maximize validation.gap_closed", "trials": 2}
    slow = {"training.optimizer.lr": {"float": [0.0001, 0.001]}}
    report = searched(tmp_path / "run", slow, {"teacher": teacher}, **objective, start_from_file=False)
    assert trained.count("teacher") == 1
    assert trained.count("student alone") >= 2, "each trial's own"
    assert report.best is not None
    assert "validation.gap_closed" in report.best["metrics"]


@pytest.mark.slow
def test_a_search_over_the_teacher_trains_each(tmp_path: Path, trained: list[str]) -> None:
    space = {"distillation.teacher.model.hidden.0": {"choice": [8, 12]}, **TEMPERATURE}
    report = searched(tmp_path / "run", space, sampler="random", trials=5)
    hidden = {row["distillation.teacher.model.hidden.0"] for row in rows(report.tables["trials"])}
    assert trained.count("teacher") == len(hidden)


WIDE: dict[str, Any] = {
    "model.hidden.0": {"int": [4, 16]},
    "distillation.losses.0.weight": {"float": [0.0, 1.0]},
    "distillation.losses.1": {
        "choice": [
            {"type": "soft_targets", "temperature": {"float": [1.0, 10.0]}},
            {"type": "dkd"},
            {"type": "dist", "weight": {"float": [0.5, 2.0]}},
        ]
    },
    "distillation.losses.2.schedule": {"choice": ["constant", {"type": "warmup", "epochs": 1}]},
}


@pytest.mark.slow
def test_temperature_weights_losses_and_the_students_shape(tmp_path: Path) -> None:
    losses = [SOFT[0], {**SOFT[1], "temperature": 4.0}, {"type": "mse_logits", "weight": 0.01}]
    report = searched(tmp_path / "run", WIDE, {"losses": losses}, trials=6)
    table = rows(report.tables["trials"])
    assert all(row["state"] == "completed" for row in table)
    assert_repeats(tmp_path / "run", report)


@pytest.mark.slow
def test_several_teachers_keep_their_weights_in_best_yaml(tmp_path: Path) -> None:
    other = {"model": {"type": "mlp", "hidden": [4]}, "training": TEACHER["training"], "weight": 5.0}
    section = {"teacher": None, "teachers": [TEACHER, other], "combine": "weighted"}
    report = searched(tmp_path / "run", TEMPERATURE, section, trials=2)
    assert {"teacher_1.pt", "teacher_2.pt"} <= {path.name for path in (tmp_path / "run").iterdir()}
    best = Experiment.load(tmp_path / "run/best.yaml").require_distillation()
    assert [teacher.weight for teacher in best.teachers] == [1.0, 5.0]
    assert_repeats(tmp_path / "run", report)


FOREST = {"type": "sklearn", "estimator": "sklearn.ensemble.RandomForestClassifier", "n_estimators": 3}


@pytest.mark.slow
@pytest.mark.parametrize(
    "section",
    [
        {"teacher": {"model": FOREST}},
        {"teacher": {**TEACHER, "seed": 4}},
        {"assistants": [{"model": {"type": "mlp", "hidden": [8]}}]},
        {"teacher": None, "generations": 2},
        {"teacher": None, "ema": {"decay": 0.9}},
        {"teacher": None, "mutual": {"count": 2}},
    ],
    ids=lambda section: list(section)[-1] + str(len(str(section))),
)
def test_every_way_to_be_taught_can_be_repeated(section: dict[str, Any], tmp_path: Path) -> None:
    report = searched(tmp_path / "run", TEMPERATURE, section, trials=2)
    assert_repeats(tmp_path / "run", report)
    by_learner = learners(report)
    assert by_learner["student"]["test.loss"] == report.metrics["test.loss"]
    assert BASE["training"]["epochs"] == 3
