"""The distill workflow: who stands in the report, what is chosen by, every way to be taught."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelopt_cli.core.errors import UsageError
from modelopt_cli.distillation import cache
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.models.files import checkpoints
from modelopt_cli.results.report import Report
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.workflows import distill, prune, train
from modelopt_cli.workflows.distillation.comparison import gaps
from modelopt_cli.workflows.distillation.run import DistillRun
from modelopt_cli.workflows.shared.context import Context
from tests.support.distill_cases import (
    BASE,
    SOFT,
    TEACHER,
    assert_same,
    differ,
    distilled,
    experiment,
    figures,
    learners,
    rows,
    state,
    state_of,
    timed,
)

pytestmark = pytest.mark.usefixtures("quick")


def test_teacher_student_alone_and_student_stand_side_by_side() -> None:
    report = distilled(experiment())
    table = rows(report.tables["learners"])
    assert [(row["learner"], row["turn"]) for row in table] == [
        (name, turn) for name in ("teacher", "student alone", "student") for turn in ("last", "best")
    ]
    assert [row["kept"] for row in table] == [True, False] * 3
    assert [row["epoch"] for row in table if row["turn"] == "last"] == [2, 3, 3]
    for row in table:
        assert {"validation.accuracy", "test.accuracy", "validation.loss", "model.parameters"} <= set(row)
    kept = learners(report)
    assert kept["teacher"]["model.parameters"] == 4 * 16 + 16 + 16 * 3 + 3
    assert report.metrics["test.accuracy"] == kept["student"]["test.accuracy"]
    assert report.metrics["model.parameters"] == kept["student"]["model.parameters"]
    curve = rows(report.tables["curve"])
    assert [(row["learner"], row["epoch"]) for row in curve] == [
        *(("teacher", epoch) for epoch in (1, 2)),
        *(("student alone", epoch) for epoch in (1, 2, 3)),
        *(("student", epoch) for epoch in (1, 2, 3)),
    ]
    costs = {row["what"]: row for row in rows(report.tables["costs"])}
    assert costs["parameters"]["teacher"] == kept["teacher"]["model.parameters"]
    assert costs["parameters"]["student"] == kept["student"]["model.parameters"]
    assert {"multiply-accumulates", "ms for a batch of 1"} <= set(costs)
    assert report.details["cached"]
    assert Report.model_validate_json(report.model_dump_json()).model_dump() == report.model_dump()


def test_the_student_alone_is_what_train_gives() -> None:
    report, alone = distilled(experiment()), train.run(experiment(), Context())
    row = learners(report)["student alone"]
    for name in ("validation.accuracy", "validation.loss", "test.accuracy", "test.loss"):
        assert row[name] == alone.metrics[name]
    assert differ(state_of(report), state_of(alone))


def test_the_teacher_is_what_train_gives_with_its_seed(tmp_path: Path) -> None:
    distilled(experiment({"teacher": {**TEACHER, "seed": 7}}), tmp_path / "run")
    alone = train.run(experiment(model=TEACHER["model"], training=TEACHER["training"], seed=7), Context())
    assert_same(state(tmp_path / "run/teacher.pt"), state_of(alone))


@pytest.mark.parametrize("keep", ["last", "best"])
def test_last_and_best_epoch_are_both_told_and_one_is_kept(keep: str) -> None:
    training = {**BASE["training"], "epochs": 6, "optimizer": {"type": "sgd", "lr": 3.0}, "keep": keep}
    report = distilled(experiment(training=training))
    curve = [row for row in rows(report.tables["curve"]) if row["learner"] == "student"]
    reached = {row["epoch"]: row for row in curve}
    table = {row["turn"]: row for row in rows(report.tables["learners"]) if row["learner"] == "student"}
    best = table["best"]["epoch"]
    goal = "validation.loss" if keep == "best" else "validation.accuracy"
    value = min if keep == "best" else max
    assert reached[best][goal] == value(row[goal] for row in curve)
    assert best == min(row["epoch"] for row in curve if row[goal] == reached[best][goal]), "the first of its like"
    for turn in ("last", "best"):
        assert table[turn]["validation.loss"] == pytest.approx(reached[table[turn]["epoch"]]["validation.loss"])
        assert table[turn]["kept"] == (turn == keep)
    assert report.metrics["validation.loss"] == table[keep]["validation.loss"]
    assert best < 6, "the training is such that epochs differ"


def with_other_test_targets(folder: Path, noise: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(90, 4)).astype(np.float32)
    targets = (inputs[:, 0] > 0).astype(int) + (inputs[:, 1] > 0)
    tested = rng.normal(size=(30, 4)).astype(np.float32)
    answers = np.random.default_rng(noise).permutation(np.arange(30) % 3)
    path = folder / f"{noise}.npz"
    np.savez(path, x=inputs, y=targets, x_test=tested, y_test=answers)
    arrays = {"inputs": "x", "targets": "y", "test_inputs": "x_test", "test_targets": "y_test"}
    return {"type": "npz", "path": str(path), **arrays, "splits": {"validation": 0.3, "seed": 0}}


def test_the_test_split_decides_on_nothing(tmp_path: Path) -> None:
    training = {**BASE["training"], "epochs": 5, "keep": "best"}
    section = {"teacher": TEACHER, "losses": SOFT, "combine": "confidence"}
    reports = [
        distilled(experiment(section, data=with_other_test_targets(tmp_path, noise), training=training))
        for noise in (1, 2)
    ]
    assert_same(state_of(reports[0]), state_of(reports[1]))
    tables = [rows(report.tables["learners"]) for report in reports]
    assert [row["epoch"] for row in tables[0]] == [row["epoch"] for row in tables[1]]
    assert [row["validation.loss"] for row in tables[0]] == [row["validation.loss"] for row in tables[1]]
    assert tables[0][0]["test.loss"] != tables[1][0]["test.loss"]


def test_how_much_of_the_gap_was_closed() -> None:
    report = distilled(experiment(training={**BASE["training"], "epochs": 1}))
    kept = learners(report)
    for split in ("validation", "test"):
        teacher, alone, student = (kept[name][f"{split}.accuracy"] for name in ("teacher", "student alone", "student"))
        if teacher > alone:
            assert report.metrics[f"{split}.gap_closed"] == pytest.approx((student - alone) / (teacher - alone))
        else:
            assert f"{split}.gap_closed" not in report.metrics


def row(name: str, value: float, metric: str = "accuracy", *, kept: bool = True) -> dict[str, Any]:
    return {"learner": name, "kept": kept, f"test.{metric}": value}


def test_the_gap_by_hand() -> None:
    alone, student = row("student alone", 0.8), row("student", 0.86)
    gap = {"test.gap_closed": pytest.approx(0.6)}
    assert gaps([row("teacher", 0.9), alone, student], "accuracy") == gap
    several = [row("teacher 1", 0.85), row("teacher 2", 0.9)]
    assert gaps([*several, alone, student], "accuracy") == gap, "the best teacher's"
    unkept = row("student", 0.1, kept=False)
    assert gaps([row("teacher", 0.9), alone, student, unkept], "accuracy") == gap
    assert gaps([row("teacher", 0.8), alone, student], "accuracy") == {}, "nothing between them"
    assert gaps([row("teacher", 0.7), alone, student], "accuracy") == {}
    assert gaps([row("teacher", 0.9), student], "accuracy") == {}
    assert gaps([alone, student], "accuracy") == {}
    errors = [row("teacher", 2.0, "rmse"), row("student alone", 3.0, "rmse"), row("student", 2.75, "rmse")]
    assert gaps(errors, "rmse") == {"test.gap_closed": pytest.approx(0.25)}, "lower is better"


def test_without_a_baseline_it_says_so_and_what_it_would_cost() -> None:
    report = distilled(experiment({"teacher": TEACHER, "baseline": False}))
    [warning] = [text for text in report.warnings if "alone" in text]  # (timings may be noisy, which is told too)
    assert "was not trained alone (baseline: false)" in warning
    assert re.search(r"it would take about \d+\.\d s", warning)
    assert list(learners(report)) == ["teacher", "student alone", "student"]
    assert learners(report)["student alone"]["turn"] == "not trained"
    assert learners(report)["student alone"]["predicted seconds"] > 0
    assert not any(name.endswith("gap_closed") for name in report.metrics)
    whole = distilled(experiment())
    assert not any("trained alone" in text for text in whole.warnings)
    assert_same(state_of(whole), state_of(report))


def test_without_validation_the_last_epoch_is_all_there_is() -> None:
    report = distilled(experiment(data={"type": "iris", "splits": {"validation": 0, "test": 0.2, "seed": 0}}))
    assert [(row["turn"], row["kept"]) for row in rows(report.tables["learners"])] == [("last", True)] * 3
    assert "validation.accuracy" not in report.metrics
    assert "test.accuracy" in report.metrics


@pytest.mark.parametrize("seeds", [1, 2])
def test_without_validation_and_test(seeds: int) -> None:
    data = {"type": "iris", "splits": {"validation": 0, "test": 0, "seed": 0}}
    report = distilled(experiment(data=data, seeds=seeds))
    assert report.status == "completed"
    assert "model.parameters" in report.metrics


def test_files_and_a_teacher_that_need_not_be_trained_again(tmp_path: Path) -> None:
    report = distilled(experiment(), tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"model.pt", "teacher.pt", "report.json", "learners.csv", "curve.csv", "costs.csv"} <= names
    assert ".state.pt" not in names
    assert json.loads((tmp_path / "run/report.json").read_text())["metrics"] == report.metrics
    student = checkpoints.load(tmp_path / "run/model.pt")
    assert student.metrics["test.accuracy"] == report.metrics["test.accuracy"]
    assert_same(dict(student.model.state_dict()), state_of(report))
    teacher = checkpoints.load(tmp_path / "run/teacher.pt")
    assert teacher.metrics["test.accuracy"] == learners(report)["teacher"]["test.accuracy"]
    again = distilled(experiment({"teacher": str(tmp_path / "run/teacher.pt")}))
    assert_same(state_of(again), state_of(report))
    assert learners(again)["teacher"]["test.loss"] == learners(report)["teacher"]["test.loss"]
    assert again.metrics.get("test.gap_closed") == report.metrics.get("test.gap_closed")
    file = tmp_path / "file.pt"
    checkpoints.save(file, teacher)
    named = distilled(experiment({"teacher": {"model": {"type": "checkpoint", "path": str(file)}}}))
    assert_same(state_of(named), state_of(report))


def test_gates(tmp_path: Path) -> None:
    report = distilled(experiment(gates=["test.accuracy >= 0.0", "test.accuracy >= 1.1", "model.parameters <= 100"]))
    assert [gate.met for gate in report.gates] == [True, False, True]


FOREST = {"type": "sklearn", "estimator": "sklearn.ensemble.RandomForestClassifier", "n_estimators": 5}


@pytest.mark.slow
def test_a_scikit_learn_teacher(tmp_path: Path) -> None:
    report = distilled(experiment({"teacher": {"model": FOREST}}), tmp_path / "run")
    table = rows(report.tables["learners"])
    assert [row["learner"] for row in table][:1] == ["teacher"]
    assert table[0]["model.parameters"] is None
    assert table[0]["turn"] == "last"
    assert 0.5 < table[0]["test.accuracy"] <= 1
    assert set(rows(report.tables["costs"])[0]) == {"what", "student"}
    teacher = checkpoints.load(tmp_path / "run/teacher.pt")
    assert teacher.architecture.framework == "sklearn"
    again = distilled(experiment({"teacher": str(tmp_path / "run/teacher.pt")}))
    assert_same(state_of(again), state_of(report))
    assert differ(state_of(report), state_of(distilled(experiment())))


@pytest.mark.slow
def test_several_teachers() -> None:
    other = {**TEACHER, "model": {"type": "mlp", "hidden": [4]}, "weight": 3.0}
    reports = {
        how: distilled(experiment({"teachers": [TEACHER, other, {"model": FOREST}], "combine": how, "baseline": False}))
        for how in ("mean", "weighted", "confidence")
    }
    for report in reports.values():
        assert list(learners(report)) == ["teacher 1", "teacher 2", "teacher 3", "student alone", "student"]
    states = [state_of(report) for report in reports.values()]
    assert differ(states[0], states[1])
    assert differ(states[0], states[2])


def test_assistants_are_taught_one_after_another() -> None:
    middle = [
        {"model": {"type": "mlp", "hidden": [10]}},
        {"model": {"type": "mlp", "hidden": [8]}, "training": TEACHER["training"]},
    ]
    report = distilled(experiment({"teacher": TEACHER, "assistants": middle}))
    assert list(learners(report)) == ["teacher", "student alone", "assistant 1", "assistant 2", "student"]
    epochs = [row["epoch"] for row in rows(report.tables["learners"]) if row["turn"] == "last"]
    assert epochs == [2, 3, 3, 2, 3]
    plain = distilled(experiment())
    assert differ(state_of(report), state_of(plain)), "the last assistant teaches, not the teacher"
    assert learners(report)["student alone"]["test.loss"] == learners(plain)["student alone"]["test.loss"]


def test_generations_with_a_teacher() -> None:
    report = distilled(experiment({"teacher": TEACHER, "generations": 3}))
    assert list(learners(report)) == ["teacher", "student alone", "generation 1", "generation 2", "student"]
    assert learners(report)["generation 1"]["test.loss"] != learners(report)["student"]["test.loss"]


def test_generations_without_a_teacher_begin_with_the_student_alone(tmp_path: Path) -> None:
    report = distilled(experiment({"generations": 2}))
    assert list(learners(report)) == ["student alone", "generation 1", "student"]
    assert not any(name.endswith("gap_closed") for name in report.metrics), "there is no teacher to be close to"
    assert set(rows(report.tables["costs"])[0]) == {"what", "student"}
    first = distilled(experiment({"generations": 1}))
    alone = train.run(experiment(), Context())
    checkpoints.save(tmp_path / "alone.pt", alone.model)
    second = distilled(experiment({"teacher": str(tmp_path / "alone.pt"), "generations": 1}, seed=0))
    assert learners(first)["student alone"]["test.loss"] == alone.metrics["test.loss"]
    assert differ(state_of(first), state_of(second)), "a generation has a seed of its own"


def test_a_moving_average_teaches() -> None:
    report = distilled(experiment({"ema": {"decay": 0.9}}))
    assert list(learners(report)) == ["student alone", "student"]
    assert differ(state_of(report), state_of(distilled(experiment({"ema": {"decay": 0.5}}))))
    assert not report.details["cached"]


def test_students_teach_each_other() -> None:
    report = distilled(experiment({"mutual": {"count": 3}}))
    assert list(learners(report)) == ["student alone", "student"]
    other = distilled(experiment({"mutual": {"count": 2, "models": [{"type": "mlp", "hidden": [20]}]}}))
    assert differ(state_of(report), state_of(other))


@pytest.mark.slow
def test_classes_that_are_left_out_are_in_no_students_train_split(tmp_path: Path) -> None:
    section = {"teacher": TEACHER, "leave_out": ["setosa"]}
    by_learner = learners(distilled(experiment(section)))
    whole = learners(distilled(experiment()))
    assert by_learner["teacher"]["test.loss"] == whole["teacher"]["test.loss"], "the teacher knows them"
    assert by_learner["student alone"]["test.loss"] > whole["student alone"]["test.loss"]
    assert by_learner["student"]["test.loss"] < by_learner["student alone"]["test.loss"], "and tells of them"
    by_number = distilled(experiment({"teacher": TEACHER, "leave_out": [3]}, data={**BASE["data"], "type": "digits"}))
    assert by_number.status == "completed"


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["setsa"], "the data have no class 'setsa'. Did you mean 'setosa'"),
        (["setosa", "versicolor", "virginica"], "leaves no sample to learn from"),
    ],
)
def test_classes_that_cannot_be_left_out(names: list[str], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        distilled(experiment({"teacher": TEACHER, "leave_out": names}))


def test_values_have_no_classes_to_leave_out() -> None:
    data = {**BASE["data"], "type": "diabetes"}
    section = {"teacher": TEACHER, "losses": [{"type": "mse"}], "leave_out": ["a"]}
    with pytest.raises(UsageError, match="leave_out names classes, but the task is regression"):
        distilled(experiment(section, data=data))


def test_a_teacher_of_values_teaches_values() -> None:
    data = {**BASE["data"], "type": "diabetes"}
    losses = [{"type": "labels"}, {"type": "mse", "weight": 1.0}]
    report = distilled(experiment({"teacher": TEACHER, "losses": losses}, data=data))
    by_learner = learners(report)
    teacher, alone, student = (by_learner[name]["test.rmse"] for name in ("teacher", "student alone", "student"))
    if teacher < alone:
        assert report.metrics["test.gap_closed"] == pytest.approx((alone - student) / (alone - teacher))
    else:
        assert "test.gap_closed" not in report.metrics


def test_the_teacher_may_learn_from_other_images_than_the_student(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (90, 1, 5, 5)).astype(np.uint8)
    np.savez(tmp_path / "images.npz", inputs=images, targets=np.arange(90) % 3)
    data = {**BASE["data"], "type": "npz", "path": str(tmp_path / "images.npz"), "augment": ["jitter"]}
    teacher = {**TEACHER, "augment": []}
    report = distilled(experiment({"teacher": teacher, "cache": {"views": 2}, "baseline": False}, data=data))
    assert report.details["cached"]
    plain = distilled(experiment({"teacher": teacher, "baseline": False}, data={**data, "augment": []}))
    assert learners(report)["teacher"]["test.loss"] == learners(plain)["teacher"]["test.loss"]
    moved = distilled(experiment({"teacher": TEACHER, "baseline": False}, data=data))
    assert not moved.details["cached"]
    assert learners(moved)["teacher"]["test.loss"] != learners(plain)["teacher"]["test.loss"]


def pruned(folder: Path, **pruning: Any) -> Path:
    with RunDirectory.create_at(folder) as directory:
        chosen = experiment(model={"type": "mlp", "hidden": [24, 16]}, pruning=pruning)
        prune.run(chosen, Context(directory=directory))
    return folder / "model.pt"


@pytest.mark.slow
def test_zeros_of_a_pruned_student_stay(tmp_path: Path) -> None:
    path = pruned(tmp_path / "pruned", amount=0.7)
    before = state(path)
    ways: tuple[dict[str, Any], ...] = ({"teacher": str(tmp_path / "pruned/dense.pt")}, {"ema": {}}, {"mutual": {}})
    for more in ways:
        report = distilled(
            experiment(more, model={"type": "checkpoint", "path": str(path)}), tmp_path / next(iter(more))
        )
        after = state(tmp_path / next(iter(more)) / "model.pt")
        assert differ(before, after)
        for name, tensor in before.items():
            if tensor.ndim > 1:
                assert bool((after[name][tensor == 0] == 0).all()), name
        saved = checkpoints.load(tmp_path / next(iter(more)) / "model.pt")
        assert set(saved.extra["masks"])
        assert report.metrics["model.nonzero"] < 0.5 * report.metrics["model.parameters"]


@pytest.mark.slow
def test_a_slimmed_student_stays_small(tmp_path: Path) -> None:
    path = pruned(tmp_path / "slim", amount=0.5, structure="neurons")
    before = {name: tensor.shape for name, tensor in state(path).items()}
    section = {"teacher": str(tmp_path / "slim/dense.pt")}
    report = distilled(experiment(section, model={"type": "checkpoint", "path": str(path)}), tmp_path / "run")
    after = {name: tensor.shape for name, tensor in state(tmp_path / "run/model.pt").items()}
    assert after == before
    kept = learners(report)
    assert kept["student"]["model.parameters"] < 0.6 * kept["teacher"]["model.parameters"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fitnets", "crd", "vid", "rkd"])
def test_projectors_are_left_behind(name: str, tmp_path: Path) -> None:
    more: dict[str, Any] = {"negatives": 16} if name == "crd" else {}
    losses = [*SOFT, {"type": name, "taps": ["layers.0"], "weight": 0.1, **more}]
    report = distilled(experiment({"teacher": TEACHER, "losses": losses, "baseline": False}), tmp_path / "run")
    built = experiment().require_model().build(report.model.shapes, 0)
    assert list(state(tmp_path / "run/model.pt")) == list(built.state_dict())


def test_global_random_numbers_and_threads_are_left_alone() -> None:
    """The same report whatever was drawn before."""
    torch.manual_seed(1)
    first = distilled(experiment())
    torch.manual_seed(2)
    torch.rand(5)
    assert figures(distilled(experiment())) == figures(first)


def test_a_plan_before_anything_is_trained() -> None:
    section = {"teacher": TEACHER, "assistants": [{"model": {"type": "mlp", "hidden": [8]}}]}
    report = distill.dry_run(experiment(section), Context())
    assert report.plan["epochs"] == 2 + 3 + 3 + 3
    assert list(report.plan["members"]) == ["teacher", "student alone", "assistant", "student"]
    assert report.plan["estimated_seconds"] == pytest.approx(sum(report.plan["members"].values()))
    forest = distill.dry_run(experiment({"teacher": {"model": FOREST}, "baseline": False}), Context())
    assert forest.plan["epochs"] == 1 + 3
    assert not cache.MEMORY.keys, "no teacher is asked for what will be kept"


def test_the_resolved_experiment_is_the_experiment() -> None:
    sections: tuple[dict[str, Any], ...] = (
        {"teacher": TEACHER},
        {"mutual": {}},
        {"ema": {}},
        {"generations": 2},
        {"teachers": ["a.pt", "b.pt"]},
    )
    for section in sections:
        chosen = experiment(section)
        assert Experiment.load(chosen.resolved()) == chosen


def test_a_student_that_was_judged_and_then_trained_on_is_judged_anew(tmp_path: Path) -> None:
    chosen = experiment()
    run = DistillRun(chosen, seed=chosen.seed, folder=tmp_path / "one", costed=False)
    run.advance(run.total - 1)
    before = run.metrics()
    run.advance(run.total)
    whole = DistillRun(chosen, seed=chosen.seed, folder=tmp_path / "other", costed=False)
    whole.advance(whole.total)
    after, expected = run.metrics(), whole.metrics()
    for name in (name for name in expected if not timed(name)):
        assert after[name] == expected[name], name
    assert before["validation.loss"] != after["validation.loss"]
