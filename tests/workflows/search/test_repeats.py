"""A search that may try settings again: what the report says of them."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest
from typer.testing import CliRunner

from modelopt_cli import Report, load, tune
from modelopt_cli.cli.main import app
from modelopt_cli.core.readable import number
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.workflows.search.unfinished import unfinished_report

FILE = """
version: 1
name: noisy
data: {type: wine, splits: {validation: 0.3, test: 0.3}}
model: {type: sklearn, estimator: sklearn.ensemble.ExtraTreesClassifier, n_estimators: 2}
tuning:
  objective: minimize validation.log_loss
  sampler: random
  executor: serial
  repeats: true
  trials: 24
  space:
    model.max_depth: {int: [1, 3]}
    model.min_samples_leaf: [1, 3, 9, 20]
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repeats") / "noisy.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def report(file: Path) -> Report:
    return tune(load(file), out=file.parent / "run")


@pytest.mark.slow
def test_the_table_holds_what_was_tried_more_than_once(report: Report) -> None:
    trials = report.tables["trials"].records()
    rows = report.tables["repeats"].records()
    assert sum(row["times"] > 1 for row in rows) >= 1
    for row in rows:
        numbers = [int(text) for text in row["trials"].split()]
        assert len(numbers) == row["times"]
        assert row["validation.log_loss"] == pytest.approx(fmean(trials[n]["validation.log_loss"] for n in numbers))
        assert len({(trials[n]["model.max_depth"], trials[n]["model.min_samples_leaf"]) for n in numbers}) == 1
        assert len({trials[n]["seed"] for n in numbers}) == len(numbers)
    assert [row["believed"] for row in rows] == sorted(row["believed"] for row in rows)


def test_the_best_is_the_best_trial_of_what_is_believed_best(report: Report) -> None:
    assert report.best is not None
    first = report.tables["repeats"].records()[0]
    assert report.best["params"]["model.max_depth"] == first["model.max_depth"]
    assert report.best["number"] in {int(text) for text in str(first["trials"]).split()}
    believed = report.details["believed"]
    assert believed["believed"] == first["believed"]
    assert believed["noise"] > 0.0
    assert report.metrics["validation.log_loss"] == pytest.approx(report.best["metrics"]["validation.log_loss"])


def test_the_terminal_says_it_and_the_run_is_replayed(report: Report, file: Path) -> None:
    shown = CliRunner().invoke(app, ["show", str(file.parent / "run")])
    assert shown.exit_code == 0, shown.output
    assert f"noise {number(report.details['believed']['noise'])}" in shown.output
    replayed = CliRunner().invoke(app, ["replay", str(file.parent / "run")])
    assert replayed.exit_code == 0, replayed.output


def test_a_run_that_is_not_finished_shows_what_is_believed_best(tmp_path: Path) -> None:
    with Study({"x": [0, 1, 2]}, "random", path=tmp_path / "study.sqlite", repeats=True) as study:
        for x, losses in enumerate([(0.30, 0.34, 0.26, 0.32), (0.22, 0.9, 1.1, 0.95), (1.0, 0.9, 1.1)]):
            for loss in losses:
                study.tell(study.ask({"x": x}), loss)
        best = study.best
    shown = unfinished_report(tmp_path)
    assert best is not None
    assert shown.best is not None
    assert shown.best["number"] == best.number
    assert shown.best["params"] == {"x": 0}  # not the luckiest one


def test_repeats_are_for_one_objective(file: Path) -> None:
    options = ["--set", "tuning.objective=[minimize validation.log_loss, maximize validation.accuracy]"]
    result = CliRunner().invoke(app, ["validate", str(file), *options])
    assert result.exit_code == 2
    assert "repeats looks for the setting that is believed best in one objective" in " ".join(result.output.split())
