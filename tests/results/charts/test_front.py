"""The front's chart: who is on it, what stands beside it, how its axes go."""

from __future__ import annotations

from typing import Any

import pytest

from modelopt_cli.results import charts
from modelopt_cli.results.charts.chart import Chart, records
from modelopt_cli.results.report import Cell, Report, Table

ROWS = [
    # trial, state, accuracy, bytes, loss
    (0, "completed", 0.90, 9_000.0, 0.3),
    (1, "completed", 0.95, 40_000.0, 0.2),
    (2, "completed", 0.80, 1_000.0, 0.6),
    (3, "completed", 0.80, 1_000.0, 0.6),
    (4, "completed", 0.85, 20_000.0, 0.5),
    (5, "stopped", 0.60, 8_000.0, 0.9),
    (6, "failed", None, None, None),
]
STAGES = Table(
    columns=["stage", "validation.accuracy", "model.size_bytes"], rows=[["train", 0.96, 90_000.0], ["prune", 0.9, 9e3]]
)


def report(goals: list[str], front: list[int], **tables: Table) -> Report:
    columns = ["trial", "state", "origin", "validation.accuracy", "model.size_bytes", "validation.loss", "model.width"]
    rows: list[list[Any]] = [
        [number, state, "file" if number == 0 else "sampler", *values, 8 * number + 8]
        for number, state, *values in ROWS
    ]
    kept = Table(columns=["trial", "checkpoint"], rows=[[number, f"front/trial-{number}.pt"] for number in front])
    return Report(
        kind="search",
        workflow="tune",
        name="compromise",
        best={"number": 1, "params": {"model.width": 16}, "metrics": {}, "seed": 1},
        tables={"trials": Table(columns=columns, rows=rows), "front": kept, **tables},
        details={
            "objective": goals,
            "front": front,
            "space": [{"path": "model.width", "kind": "int", "range": "8 to 64", "when": ""}],
            "baseline": {"trial": 0, "state": "completed", "metrics": {}},
        },
    )


def drawn(given: Report) -> Chart:
    chart = charts.draw(given, "front")
    assert chart is not None
    return chart


TWO = ["maximize validation.accuracy", "minimize model.size_bytes"]


def test_each_trial_is_what_it_is() -> None:
    rows = records(drawn(report(TWO, [0, 1, 2, 3])).data["front"])
    by_kind = {kind: [row["trial"] for row in rows if row["what"] == kind] for kind in {row["what"] for row in rows}}
    assert by_kind == {"on the front": [0, 1, 2, 3], "beaten": [4], "stopped": [5], "the file's own": [0]}
    labels = {row["trial"]: row["label"] for row in rows if row.get("front")}
    assert labels == {0: "0", 1: "1", 2: "2, 3", 3: ""}, "equal points have one label"
    assert [row["checkpoint"] for row in rows[:2]] == ["front/trial-0.pt", "front/trial-1.pt"]


def test_labels_that_would_lie_on_each_other_are_left_to_the_pointer() -> None:
    given = report(TWO, [0, 1, 2])
    near: list[list[Cell]] = [
        [7, "completed", "sampler", 0.902, 9_100.0, 0.3, 64],
        [8, "completed", "sampler", 0.93, 9_200.0, 0.3, 64],
    ]
    given.tables["trials"].rows.extend(near)
    given.details["front"] = [0, 1, 2, 7, 8]
    rows = records(drawn(given).data["front"])
    labels = {row["trial"]: row["label_0"] for row in rows if row.get("front")}
    assert labels == {0: "0", 1: "1", 2: "2", 7: "", 8: "8"}, "the ends have theirs, then the others from the left"
    labels = {row["trial"]: row["label_0"] for row in records(drawn(report(TWO, [1])).data["front"])}
    assert labels[1] == "1"


def test_the_model_that_all_began_with_stands_beside() -> None:
    chart = drawn(report(TWO, [0, 1, 2], stages=STAGES))
    before = next(row for row in records(chart.data["front"]) if row["what"] == "before")
    assert [value for name, value in before.items() if name.startswith("m")] == [0.96, 90_000.0]
    assert "Before: what the model of trial 1 was made of (validation.accuracy 0.9600" in chart.note
    assert "1 failed trial has no place here" in chart.note


@pytest.mark.parametrize("kind", ["learners", "costs"])
def test_so_does_the_teacher_and_what_a_table_of_costs_has(kind: str) -> None:
    columns = ["learner" if kind == "learners" else "stage", "validation.accuracy"]
    first = Table(columns=columns, rows=[["teacher" if kind == "learners" else "before", 0.97], ["student", 0.9]])
    costs = Table(
        columns=["what", "teacher" if kind == "learners" else "before", "after"],
        rows=[["bytes of tensors", 70_000.0, 9_000.0]],
    )
    tables = {"learners" if kind == "learners" else "stages": first, "costs": costs}
    before = [row for row in records(drawn(report(TWO, [0, 1, 2], **tables)).data["front"]) if row["what"] == "before"]
    assert [list(filter(lambda value: isinstance(value, float), row.values())) for row in before] == [[0.97, 70_000.0]]


def test_costs_lie_below_by_logarithms_where_they_span_much() -> None:
    axes = {
        name: layer["encoding"][name]
        for layer in drawn(report(TWO, [0, 1, 2])).panels[0].spec["layer"]
        for name in ("x", "y")
    }
    assert axes["x"]["title"] == "model.size_bytes (lower is better)"
    assert axes["x"]["scale"]["type"] == "log"
    low, high = axes["x"]["scale"]["domain"]
    assert 0 < low < 1_000
    assert high > 40_000
    assert axes["y"]["title"] == "validation.accuracy (higher is better)"
    assert "type" not in axes["y"]["scale"]
    near = drawn(report(["maximize validation.accuracy", "minimize validation.loss"], [1]))
    assert "type" not in near.panels[0].spec["layer"][0]["encoding"]["x"]["scale"], "a narrow range is linear"


def test_three_objectives_are_pairs() -> None:
    chart = drawn(report([*TWO, "minimize validation.loss"], [0, 1, 2]))
    assert [panel.title for panel in chart.panels] == [
        "validation.accuracy against model.size_bytes",
        "validation.accuracy against validation.loss",
        "validation.loss against model.size_bytes",
    ]
    assert charts.draw(report(["maximize validation.accuracy"], [1]), "front") is None
    assert chart.render("svg").startswith(b"<svg")
