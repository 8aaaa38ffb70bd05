"""Every report of a workflow is made in shared/reporting.py: with its clock, its warnings, its gates."""

from __future__ import annotations

import ast
import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import modelopt_cli.workflows
from modelopt_cli import evaluate, load, train
from modelopt_cli.core.conditions import Condition
from modelopt_cli.models.files import checkpoints
from modelopt_cli.pruning.allocations.global_ import Global
from modelopt_cli.pruning.importances.magnitude import Magnitude
from modelopt_cli.pruning.structures.weights import Weights
from modelopt_cli.pruning.weights.files import FilePruning
from modelopt_cli.results.report import Table
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.results.saved_run import read_run
from modelopt_cli.workflows import prune_file
from modelopt_cli.workflows.evaluate import evaluated
from modelopt_cli.workflows.inspect import units, weights
from modelopt_cli.workflows.shared.context import Context
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting

ROOT = Path(modelopt_cli.workflows.__file__).parent


@cache
def modules() -> dict[str, ast.Module]:
    """Read by the process that asks, not by all that collect."""
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


HALF = FilePruning(Magnitude(), Weights(), Global(), 0.5)
SMALL: dict[str, Any] = {
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [4]},
    "training": {"epochs": 1},
}


def called(tree: ast.Module) -> set[str]:
    """Names that are called in a module, also as attributes."""
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {func.id for func in functions if isinstance(func, ast.Name)} | {
        func.attr for func in functions if isinstance(func, ast.Attribute)
    }


def test_no_other_module_makes_a_report() -> None:
    assert [name for name, tree in modules().items() if "Report" in called(tree)] == ["shared/reporting.py"]


def test_whoever_reports_records_warnings() -> None:
    makers = [name for name, tree in modules().items() if "Reporting" in called(tree)]
    assert {"evaluate.py", "export.py", "prune_file.py", "replay.py", "tune.py"} < set(makers)
    assert {"inspect/weights.py", "inspect/units.py", "shared/model_workflow.py", "shared/over_seeds.py"} < set(makers)
    assert [name for name in makers if "recording" not in called(modules()[name])] == []


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    checkpoints.save(path, train(load(SMALL)).model)
    return path


def test_reports_on_files_have_a_clock_and_judge_gates(model: Path) -> None:
    met, missed = Condition.parse("test.accuracy >= 0"), Condition.parse("test.accuracy >= 1.1")
    report = evaluated(model, "test", gates=[met, missed])
    assert [gate.met for gate in report.gates] == [True, False]
    assert report.gates[1].value == report.metrics["test.accuracy"]
    for each in (report, weights.run(model), units.run(model)):
        assert each.started
        assert each.seconds > 0


@pytest.mark.filterwarnings("default:told while loading")
def test_warnings_while_a_file_is_looked_at_are_in_its_report(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = checkpoints.load

    def warned(*args: Any) -> Any:
        warnings.warn("told while loading", RuntimeWarning, stacklevel=1)
        return opened(*args)

    monkeypatch.setattr(checkpoints, "load", warned)
    assert "RuntimeWarning: told while loading" in evaluate(model).warnings


def test_gates_on_a_file_of_weights(model: Path) -> None:
    report = prune_file.run(model, HALF, dry_run=True, gates=[Condition.parse("model.sparsity >= 0.4")])
    assert [gate.met for gate in report.gates] == [report.metrics["model.sparsity"] >= 0.4]


def test_a_report_without_an_experiment_has_the_name_it_is_given() -> None:
    report = Reporting(None, name="file", seed=3).report("inspection", "inspect", Outcome(warnings=["a", "b", "a"]))
    assert (report.name, report.seed, report.warnings) == ("file", 3, ["a", "b"])
    assert json.loads(report.to_json())["gates"] == []


def test_tables_beside_the_report_are_written_and_found(tmp_path: Path) -> None:
    curves = Table(columns=["trial", "step"], rows=[[0, 1]])
    with RunDirectory.create_at(tmp_path / "run") as directory:
        reporting = Reporting(None, Context(directory), name="a")
        report = reporting.report("search", "tune", Outcome({"loss": 1.0}, beside={"curves": curves}))
    assert report.table("curves") == curves
    assert "curves" not in report.tables
    assert read_run(tmp_path / "run").table("curves") == curves
    assert (tmp_path / "run/curves.csv").read_text() == "trial,step\n0,1\n"
