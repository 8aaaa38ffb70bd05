"""`distillation.start`: a student that begins with its teacher's weights, and which of all students do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.distill_cases import SOFT, TEACHER, distilled, experiment, learners

pytestmark = pytest.mark.usefixtures("quick")

STILL: dict[str, Any] = {"epochs": 1, "batch_size": 16, "optimizer": {"type": "sgd", "lr": 1e-12}}


def of_teachers_kind(start: str, **more: Any) -> Any:
    section = {"teacher": TEACHER, "losses": SOFT, "start": start, "baseline": True, **more}
    return experiment(section, model=TEACHER["model"], training=STILL)


def test_a_student_that_does_not_move_is_its_teacher() -> None:
    table = learners(distilled(of_teachers_kind("teacher")))
    names = ("validation.loss", "test.loss", "test.accuracy")
    teacher, student = ([table[name][metric] for metric in names] for name in ("teacher", "student"))
    assert student == pytest.approx(teacher, abs=1e-6)
    assert table["student alone"]["test.loss"] != pytest.approx(teacher[1], abs=1e-3), "it has no teacher"
    fresh = learners(distilled(of_teachers_kind("fresh")))
    assert fresh["student"]["test.loss"] == pytest.approx(fresh["student alone"]["test.loss"], abs=1e-6)


def test_generations_begin_with_the_one_before() -> None:
    table = learners(distilled(of_teachers_kind("teacher", generations=2)))
    losses = [table[name]["test.loss"] for name in ("generation 1", "student")]
    assert losses == pytest.approx([table["teacher"]["test.loss"]] * 2, abs=1e-6)


def test_where_no_layer_is_alike_it_says_so() -> None:
    report = distilled(experiment({"teacher": TEACHER, "start": "teacher"}))
    [warning] = [text for text in report.warnings if "distillation.start" in text]
    assert "no layer of the student is like one of the teacher's" in warning
    assert not [text for text in distilled(of_teachers_kind("teacher")).warnings if "distillation.start" in text]
