"""A search for compromises: the front, its hypervolume, and the point that it is measured from."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from modelopt_cli import Report, load, tune
from modelopt_cli.cli.main import app
from modelopt_cli.tuning.analysis.hypervolume import hypervolume

FILE = """
version: 1
name: compromise
data: {type: iris}
model: {type: sklearn, estimator: sklearn.tree.DecisionTreeClassifier}
tuning:
  objective: [maximize validation.accuracy, minimize validation.log_loss]
  sampler: random
  executor: serial
  trials: 6
  space:
    model.max_leaf_nodes: {int: [2, 12]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "compromise.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def rows(report: Report, name: str) -> list[dict[str, Any]]:
    table = report.tables[name]
    return table.records()


def test_the_report_says_what_the_front_is_worth(file: Path, tmp_path: Path) -> None:
    report = tune(load(file), out=tmp_path / "run")
    front, trials = rows(report, "front"), rows(report, "trials")
    same = [number for row in front for number in (row.get("same_as") or "").split()]
    assert sorted([*(row["trial"] for row in front), *map(int, same)]) == report.details["front"]
    assert [row["validation.accuracy"] for row in front] == sorted(
        (row["validation.accuracy"] for row in front), reverse=True
    )
    reference = report.details["reference"]
    corner = (-reference["validation.accuracy"], reference["validation.log_loss"])
    losses = [(-row["validation.accuracy"], row["validation.log_loss"]) for row in trials]
    assert report.details["hypervolume"] == pytest.approx(hypervolume(losses, corner))
    assert report.details["hypervolume"] > 0
    grown = rows(report, "hypervolume")
    assert [row["trial"] for row in grown] == list(range(6))
    assert grown[-1]["hypervolume"] == report.details["hypervolume"]
    with (tmp_path / "run" / "front.csv").open() as stream:
        assert [int(row["trial"]) for row in csv.DictReader(stream)] == [row["trial"] for row in front]
    saved = json.loads((tmp_path / "run" / "hypervolume.json").read_text())
    assert saved == grown


def test_trials_that_come_to_the_same_are_one_row(tmp_path: Path) -> None:
    """A setting that changes nothing: each point is there twice, and stands once, by its first trial."""
    content = {
        "name": "twice",
        "data": {"type": "iris", "splits": {"validation": 0.3, "test": 0.2, "seed": 0}},
        "model": {"type": "sklearn", "estimator": "sklearn.tree.DecisionTreeClassifier"},
        "tuning": {
            "objective": ["maximize validation.accuracy", "minimize validation.log_loss"],
            "sampler": "grid",
            "executor": "serial",
            "space": {"model.min_impurity_decrease": [0.0, 1e-12], "model.max_depth": [1, 2, 4]},
        },
    }
    report = tune(load(content), out=tmp_path / "run")
    front = rows(report, "front")
    values = [(row["validation.accuracy"], row["validation.log_loss"]) for row in front]
    assert len(values) == len(set(values))
    assert len(report.details["front"]) == 2 * len(front)
    for row in front:
        assert int(row["same_as"]) == row["trial"] + 3
    twins = f"{len(front)} of them came to the very same values as another"
    assert twins in (tmp_path / "run" / "report.html").read_text()
    assert {path.name for path in (tmp_path / "run" / "front").iterdir()} == {
        f"trial-{number}.pt" for number in report.details["front"]
    }


def test_a_reference_of_ones_own_and_the_terminal(file: Path) -> None:
    options = ["--set", "tuning.reference=[0.5, 2.0]", "--out", str(file.parent / "own")]
    result = CliRunner().invoke(app, ["tune", str(file), *options])
    assert result.exit_code == 0, result.output
    assert "up to validation.accuracy 0.5, validation.log_loss 2" in result.output
    assert "best compromise" in result.output
    report = json.loads((file.parent / "own" / "report.json").read_text())
    assert report["details"]["reference"] == {"validation.accuracy": 0.5, "validation.log_loss": 2.0}


def test_one_objective_has_no_front(file: Path) -> None:
    experiment = load(file, ["tuning.objective=maximize validation.accuracy"])
    report = tune(experiment)
    assert "front" not in report.tables
    assert "hypervolume" not in report.details


@pytest.mark.parametrize(
    ("objective", "reference", "message"),
    [
        ("[minimize validation.log_loss, maximize validation.accuracy]", "[1.0]", "must be 2 numbers"),
        ("[minimize validation.log_loss, maximize validation.accuracy]", "[1.0, .nan]", "must be a finite number"),
        ("minimize validation.log_loss", "[1.0]", "several objectives only"),
    ],
)
def test_a_reference_that_does_not_fit(file: Path, objective: str, reference: str, message: str) -> None:
    options = ["--set", f"tuning.objective={objective}", "--set", f"tuning.reference={reference}"]
    result = CliRunner().invoke(app, ["validate", str(file), *options])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
