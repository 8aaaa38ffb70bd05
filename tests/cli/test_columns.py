"""A table's columns are read by name, whatever a script calls its metrics."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from modelopt_cli.results.report import Report, Table
from modelopt_cli.results.tables import column_of, metric_column
from modelopt_cli.tuning.trials.table import TRIAL_COLUMNS
from modelopt_cli.workflows.shared.over_seeds import averaged
from tests.support.cli import Cli

SCRIPT = """\
import json, sys
print(json.dumps({"loss": float(sys.argv[1]), "trial": 7, "state": 8, "seed": 9, "seconds": 3.5, "metric.state": 4,
                  "command.parameters.a": 5, "reason": 6, "born": 1, "steps": 2, "origin": 3, "=cmd": 1}))
"""
FILE = """\
name: clash
command: {argv: [python, p.py, "{a}"], parameters: {a: 1}}
tuning:
  workflow: command
  objective: minimize OBJECTIVE
  sampler: grid
  executor: serial
  space: {command.parameters.a: [1, 2]}
"""


@pytest.mark.parametrize("objective", ["loss", "state"])
def test_metrics_called_like_columns(cli: Cli, objective: str) -> None:
    Path("p.py").write_text(SCRIPT)
    Path("h.yaml").write_text(FILE.replace("OBJECTIVE", objective))
    result = cli("tune", "h.yaml", "--out", "run", "--gate", "state >= 8")
    assert result.code == 0, result.err
    with Path("run/trials.csv").open() as stream:
        rows = list(csv.DictReader(stream))
        stream.seek(0)
        columns = next(csv.reader(stream))
    assert len(set(columns)) == len(columns)
    assert [(row["trial"], row["state"], row["origin"]) for row in rows] == [
        ("0", "completed", "sampler"),
        ("1", "completed", "sampler"),
    ]
    assert [row["command.parameters.a"] for row in rows] == ["1", "2"]
    loaded = json.loads(Path("run/trials.json").read_text())
    assert [row["state"] for row in loaded] == ["completed", "completed"]
    expected = {"trial": 7, "state": 8, "seed": 9, "seconds": 3.5, "metric.state": 4, "command.parameters.a": 5}
    for row in loaded:
        assert {name: row[column_of(name, row)] for name in expected} == expected
        assert row["metric.state"] == 8
        assert row["loss"] == row["command.parameters.a"]
    shown = cli("show", "run")
    assert shown.code == 0
    assert "done" not in shown.out or "best setting" in shown.out


def test_a_column_and_back() -> None:
    columns = [metric_column(name, TRIAL_COLUMNS) for name in ("loss", "state", "metric.state", "metric.loss")]
    assert len(set(columns)) == 4
    assert [column_of(name, columns) for name in ("loss", "state", "metric.state", "metric.loss")] == columns


def test_curves_of_scripts(cli: Cli) -> None:
    Path("p.py").write_text('print(\'{"step": 1, "epoch": 4, "loss": 1.0}\')\n')
    Path("h.yaml").write_text("name: curve\ncommand: {argv: [python, p.py]}\n")
    assert cli("train", "h.yaml", "-q", "--out", "run").code == 0
    assert json.loads(Path("run/curve.json").read_text()) == [{"epoch": 1, "metric.epoch": 4.0, "loss": 1.0}]


def test_one_path_in_two_branches_is_one_column(cli: Cli) -> None:
    Path("it.yaml").write_text(
        "name: twice\ndata: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}\n"
        "model: {type: mlp, hidden: [4]}\ntraining: {epochs: 1}\n"
        "tuning:\n  objective: [maximize validation.accuracy, minimize model.size_bytes]\n  sampler: random\n"
        "  trials: 3\n  executor: serial\n  space:\n    training.optimizer:\n      choice:\n"
        "        - {type: sgd, lr: {float: [0.1, 0.2]}}\n        - {type: adam, lr: {float: [0.01, 0.02]}}\n"
    )
    assert cli("tune", "it.yaml", "-q", "--out", "run").code == 0
    for name in ("trials", "front"):
        with Path(f"run/{name}.csv").open() as stream:
            columns = next(csv.reader(stream))
        assert len(set(columns)) == len(columns), name


def test_deviations_over_seeds_and_over_folds_are_two_columns() -> None:
    tables = [Table(columns=["a", "a_std"], rows=[[1.0 * seed, 0.1 * seed]]) for seed in (1, 2)]
    averages = averaged(tables)
    assert averages is not None
    assert averages.columns == ["a", "a_seeds_std", "a_std", "a_std_std"]


@pytest.mark.parametrize("sections", ["", "evaluation: {cv: 3}\n"])
def test_no_file_holds_the_sign_for_deviations(cli: Cli, sections: str) -> None:
    Path("it.yaml").write_text(
        "name: seeds\nseeds: 2\ndata: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}\n"
        f"model: {{type: mlp, hidden: [4]}}\ntraining: {{epochs: 1}}\n{sections}"
    )
    assert cli("train", "it.yaml", "-q", "--out", "run").code == 0
    for path in Path("run").glob("*.[cj]s*"):
        assert "±" not in path.read_text(), path
    for path in Path("run").glob("*.csv"):
        columns = path.read_text().splitlines()[0].split(",")
        assert len(set(columns)) == len(columns), path
    assert "validation.loss_" in Path("run/curve.csv").read_text()


def test_reports_of_earlier_versions_are_shown(cli: Cli) -> None:
    """Two columns of one name, and deviations called otherwise."""
    trials = Table(
        columns=["trial", "state", "origin", "loss", "state", "a", "seed", "seconds", "steps", "reason"],
        rows=[[0, "completed", "sampler", 1.0, 8.0, 1, 0, 0.1, 1, ""]],
    )
    learners = Table(
        columns=["learner", "epoch", "epoch ±", "turn", "kept", "test.accuracy", "test.accuracy ±"],
        rows=[["student", 2.0, 0.5, "last", True, 0.9, 0.01]],
    )
    best = {"number": 0, "params": {"a": 1}, "metrics": {"loss": 1.0}, "seed": 0}
    for name, report in {
        "old": Report(
            kind="search", workflow="tune", name="old", best=best, tables={"trials": trials}, metrics={"loss": 1.0}
        ),
        "older": Report(
            kind="distillation",
            workflow="distill",
            name="older",
            tables={"learners": learners},
            details={"seeds": [0, 1]},
        ),
    }.items():
        Path(f"runs/{name}/1").mkdir(parents=True)
        Path(f"runs/{name}/1/report.json").write_text(report.model_dump_json())
        shown = cli("show", name)
        assert shown.code == 0, shown.err
    assert "0.9000 ± 0.0100" in shown.out
    assert cli("runs").code == 0
