"""Importances and effects in a search's report: tables, units, several objectives, too few trials."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from modelopt_cli import Experiment, tune
from modelopt_cli.cli.render import search
from modelopt_cli.core.conditions import Goal
from modelopt_cli.results.report import Report
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.workflows.search.analysis import SearchAnalysis, search_analysis

SPACE = {
    "training.lr": {"float": [1e-3, 1], "log": True},
    "model.kind": {"choice": [{"type": "a"}, {"type": "b", "lr": {"float": [0, 1]}}]},
}


def searched(objective: Any, count: int, sampler: str = "sobol") -> tuple[Study, SearchAnalysis]:
    study = Study(SPACE, sampler, objective)
    for _ in range(count):
        trial = study.ask()
        inner = trial.params.get("model.kind.lr", 0.5)
        accuracy = trial.params["training.lr"] / 2 + inner / 4
        if trial.number % 7 == 6:
            study.tell(trial, ValueError("no luck"))
        else:
            study.tell(trial, {"accuracy": accuracy, "size": 10.0 * inner})
    return study, search_analysis(study.space, study.trials, study.goals)


def rows(analysis: SearchAnalysis, name: str) -> list[dict[str, Any]]:
    table = analysis.tables[name]
    return table.records()


def test_tables_are_in_the_metrics_unit_and_say_when_a_parameter_counts() -> None:
    study, analysis = searched("maximize accuracy", 42)
    assert analysis.missing == {}
    importance = rows(analysis, "importance")
    assert importance[0]["path"] == "training.lr"
    assert [row["importance"] for row in importance] == sorted((row["importance"] for row in importance), reverse=True)
    inner = next(row for row in importance if row["path"] == "model.kind.lr")
    assert inner["when"] == "model.kind = b"
    ended = [trial for trial in study.trials if trial.losses]
    assert inner["trials"] == sum("model.kind.lr" in trial.params for trial in ended) < len(ended)
    effect = [row for row in rows(analysis, "effects") if row["path"] == "training.lr"]
    assert [effect[0]["value"], effect[-1]["value"]] == [0.001, 1.0]
    assert effect[-1]["mean"] == pytest.approx(0.5 + 0.125, abs=0.03), "an accuracy, not a loss"
    kinds = [row["value"] for row in rows(analysis, "effects") if row["path"] == "model.kind"]
    assert kinds == ['{"type": "a"}', '{"type": "b"}']
    pairs = rows(analysis, "effects_pairs")
    assert {(row["path_a"], row["path_b"]) for row in pairs} == {
        ("training.lr", "model.kind"),
        ("training.lr", "model.kind.lr"),
    }
    json.dumps([table.model_dump() for table in analysis.tables.values()])


def test_each_objective_has_its_own_rows() -> None:
    _, analysis = searched(["maximize accuracy", "minimize size"], 42)
    first = {row["metric"]: row["path"] for row in reversed(rows(analysis, "importance"))}
    assert first == {"accuracy": "training.lr", "size": "model.kind.lr"}


def test_too_few_trials_are_told() -> None:
    _, analysis = searched("maximize accuracy", 9)
    assert analysis.tables == {}
    assert analysis.missing == {"accuracy": "8 trials ended with a value, but 10 are needed for 3 parameters"}


def shown(analysis: SearchAnalysis, goals: list[str]) -> str:
    report = Report(
        kind="search",
        workflow="tune", name="x", tables=analysis.tables,
        details={"objective": goals, "importance_missing": analysis.missing},
    )  # fmt: skip
    console = Console(file=io.StringIO(), width=120)
    search.render(console, report, quiet=False)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_line_on_the_terminal() -> None:
    line = shown(searched("maximize accuracy", 42)[1], ["maximize accuracy"])
    assert line.startswith("importance: training.lr ")
    assert ", kind.lr " in line
    assert shown(searched(["maximize accuracy", "minimize size"], 42)[1], []).count("importance for ") == 2
    assert "8 trials ended with a value, but 10" in shown(searched("maximize accuracy", 9)[1], [])


@pytest.mark.slow
def test_a_run_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import json, sys\nx, y = map(float, sys.argv[1:])\nprint(json.dumps({'loss': x + 0.1 * y}))\n"
    )
    file = tmp_path / "search.yaml"
    file.write_text(
        """\
command: {argv: [python, program.py, "{x}", "{y}"], parameters: {x: 0.5, y: 0.5}}
tuning:
  workflow: command
  objective: minimize loss
  trials: 10
  sampler: sobol
  executor: serial
  space: {command.parameters.x: {float: [0, 1]}, command.parameters.y: {float: [0, 1]}}
"""
    )
    report = tune(Experiment.load(file), tmp_path / "run")
    assert {"importance", "effects", "effects_pairs"} <= set(report.tables)
    assert report.tables["importance"].rows[0][0] == "command.parameters.x"
    kept = json.loads((tmp_path / "run" / "importance.json").read_text())
    assert kept[0]["importance"] == pytest.approx(1 / 1.01, abs=0.03)
    assert len((tmp_path / "run" / "effects.csv").read_text().splitlines()) == 1 + 2 * 25
    assert (tmp_path / "run" / "effects_pairs.csv").exists()


def test_goals_need_not_be_the_studys() -> None:
    study, analysis = searched("maximize accuracy", 42)
    again = search_analysis(study.space, study.trials, [Goal.parse("maximize accuracy")])
    assert again == analysis, "nothing in it is random"
