"""An interrupted distillation goes on to the same students, bit for bit, wherever it was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.core.errors import StorageError, UsageError
from modelopt_cli.distillation import cache
from modelopt_cli.workflows.runs.torch import TorchRun
from modelopt_cli.workflows.shared import run_files
from tests.support.distill_cases import (
    BASE,
    SOFT,
    TEACHER,
    assert_same,
    differ,
    distilled,
    experiment,
    figures,
    interrupted,
    rows,
    state,
    state_of,
)

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 9))
def test_interrupted_in_the_teacher_the_baseline_or_the_student(step: int, tmp_path: Path) -> None:
    """Steps 1 and 2 are the teacher's, 3 to 5 the student's alone, 6 to 8 the student's."""
    chosen = experiment()
    whole = distilled(chosen)
    first = interrupted(chosen, tmp_path / "run", step)
    assert not first.metrics
    assert not (tmp_path / "run/model.pt").exists()
    cache.MEMORY.clear()
    report = distilled(chosen, tmp_path / "run", resume=True)
    assert report.status == "completed"
    assert_same(state(tmp_path / "run/model.pt"), state_of(whole))
    assert figures(report) == figures(whole)
    assert not (tmp_path / "run/.state.pt").exists()


FITNETS = [*SOFT, {"type": "fitnets", "taps": ["layers.0"], "weight": 0.1}]
CRD = [*SOFT, {"type": "crd", "taps": ["layers.0"], "negatives": 8, "weight": 0.1}]
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "projectors": ({"teacher": TEACHER, "losses": FITNETS}, {}),
    "a memory bank": ({"teacher": TEACHER, "losses": CRD}, {}),
    "a cache on disk": ({"teacher": TEACHER, "cache": {"where": "disk"}}, {}),
    "a moving average": ({"ema": {"decay": 0.9}}, {}),
    "each other": ({"mutual": {"count": 3}}, {}),
    "generations": ({"generations": 2}, {}),
    "assistants": ({"teacher": TEACHER, "assistants": [{"model": {"type": "mlp", "hidden": [8]}}]}, {}),
    "the teacher's own weights": (
        {"teacher": TEACHER, "start": "teacher", "generations": 2},
        {"model": TEACHER["model"]},
    ),
    "a forest": (
        {"teacher": {"model": {"type": "sklearn", "estimator": "sklearn.ensemble.RandomForestClassifier"}}},
        {},
    ),
    "the best epoch, with patience": (
        {"teacher": TEACHER},
        {"training": {**BASE["training"], "epochs": 6, "optimizer": {"type": "sgd", "lr": 3.0}, "patience": 2}},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_interrupted_twice(name: str, tmp_path: Path) -> None:
    section, sections = CASES[name]
    chosen = experiment(section, **sections)
    whole = distilled(chosen, tmp_path / "whole")
    total = len(rows(whole.tables["curve"]))
    interrupted(chosen, tmp_path / "run", 2)
    interrupted(chosen, tmp_path / "run", total - 1, resume=True)
    report = distilled(chosen, tmp_path / "run", resume=True)
    assert_same(state(tmp_path / "run/model.pt"), state(tmp_path / "whole/model.pt"))
    assert figures(report) == figures(whole)


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["last", "best"])
def test_interrupted_after_the_last_step_the_student_is_not_trained_again(
    keep: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {**BASE["training"], "epochs": 6, "optimizer": {"type": "sgd", "lr": 3.0}, "keep": keep}
    chosen = experiment({"teacher": TEACHER, "losses": CRD}, training=training)
    whole = distilled(chosen)
    interrupted(chosen, tmp_path / "run", 14)
    monkeypatch.setattr(TorchRun, "advance", lambda *_: pytest.fail("trained again"))
    report = distilled(chosen, tmp_path / "run", resume=True)
    assert_same(state_of(report), state_of(whole))
    assert figures(report) == figures(whole)


def test_a_crash_loses_no_one_who_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = experiment()
    whole = distilled(chosen)
    advance = TorchRun.advance

    def crash(self: TorchRun, until: int) -> Any:
        if self.trainer.criterion is not None and until == 2:
            raise KeyboardInterrupt
        return advance(self, until)

    monkeypatch.setattr(TorchRun, "advance", crash)
    with pytest.raises(KeyboardInterrupt):
        distilled(chosen, tmp_path / "run")
    trained: list[int] = []

    def counted(self: TorchRun, until: int) -> Any:
        trained.append(until)
        return advance(self, until)

    monkeypatch.setattr(TorchRun, "advance", counted)
    report = distilled(chosen, tmp_path / "run", resume=True)
    assert trained == [1, 2, 3], "the student alone"
    assert_same(state_of(report), state_of(whole))
    assert rows(report.tables["learners"]) == rows(whole.tables["learners"])
    learners = [row["learner"] for row in rows(report.tables["curve"])]
    assert learners == ["teacher"] * 2 + ["student alone"] * 3 + ["student"] * 3


def test_states_are_saved_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_files, "SAVE_EVERY", -1.0)
    whole = distilled(experiment())
    report = distilled(experiment(), tmp_path / "run")
    assert figures(report) == figures(whole), "looking at the state changes nothing"


def test_another_experiment_is_not_gone_on_with(tmp_path: Path) -> None:
    interrupted(experiment(), tmp_path / "run", 4)
    other = experiment({"teacher": TEACHER, "losses": [{"type": "soft_targets", "temperature": 2.0}]})
    with pytest.raises(UsageError, match=r"distillation\.losses"):
        distilled(other, tmp_path / "run", resume=True)
    distilled(experiment(), tmp_path / "run", resume=True)


def test_nothing_of_an_earlier_run_is_overwritten(tmp_path: Path) -> None:
    distilled(experiment(), tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises((StorageError, UsageError)):
        distilled(experiment(seed=5), tmp_path / "run")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_teachers_file_that_changed_teaches_anew(tmp_path: Path) -> None:
    """Stage files of assistants know which file their teacher was."""
    from modelopt_cli.models.files import checkpoints

    distilled(experiment({"teacher": {**TEACHER, "seed": 1}}), tmp_path / "one")
    distilled(experiment({"teacher": {**TEACHER, "seed": 2}}), tmp_path / "two")
    file = tmp_path / "teacher.pt"
    section = {"teacher": str(file), "assistants": [{"model": {"type": "mlp", "hidden": [8]}}]}
    outcomes = []
    for name in ("one", "two"):
        checkpoints.save(file, checkpoints.load(tmp_path / name / "teacher.pt"))
        outcomes.append(state_of(distilled(experiment(section), tmp_path / f"student-{name}")))
    checkpoints.save(file, checkpoints.load(tmp_path / "one/teacher.pt"))
    interrupted(experiment(section), tmp_path / "run", 7)
    checkpoints.save(file, checkpoints.load(tmp_path / "two/teacher.pt"))
    report = distilled(experiment(section), tmp_path / "run", resume=True)
    assert_same(state_of(report), outcomes[1])
    assert differ(outcomes[0], outcomes[1])


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 4, 5, 7])
@pytest.mark.parametrize("name", ["assistants", "generations", "a forest"])
def test_killed_between_two_saved_states_no_row_of_the_tables_is_lost(
    name: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept then are the stage files of those that are finished, and the state that was saved last, if any."""
    section, sections = CASES[name]
    chosen = experiment(section, **sections)
    whole = distilled(chosen)
    for saved in (False, True):
        run = tmp_path / f"run-{saved}"
        if saved:
            interrupted(chosen, run, 1)
        with monkeypatch.context() as patched:
            patched.setattr(run_files, "save_state", lambda *_: None)
            interrupted(chosen, run, step, resume=saved)
        report = distilled(chosen, run, resume=True)
        assert figures(report) == figures(whole)
