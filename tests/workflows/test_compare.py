"""Runs side by side as a report: order of metrics, gates, warnings, and a JSON round trip."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelopt_cli import Report, compare
from modelopt_cli.core.errors import InputError, UsageError
from modelopt_cli.results.run_directory import RunDirectory
from tests.support.compared_runs import run_folder

METRICS = {
    "train.seconds": 1.0,
    "validation.accuracy": 0.8,
    "test.loss": 0.4,
    "test.accuracy": 0.85,
    "model.parameters": 9.0,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    run_folder(tmp_path, "a", METRICS, samples={"test": 1000})
    run_folder(tmp_path, "b", {**METRICS, "test.accuracy": 0.9}, samples={"test": 1000}, seconds=4.0)
    return tmp_path


def test_what_a_comparison_holds(root: Path) -> None:
    gate = "B.model.parameters <= A.model.parameters"
    report = compare(["a", "b"], [gate], root=root)
    assert (report.kind, report.workflow, report.name) == ("comparison", "compare", "a/1 and b/1")
    assert [row["metric"] for row in report.records("metrics")] == [
        *("model.parameters", "test.loss", "test.accuracy", "validation.accuracy", "train.seconds", "seconds"),
    ]
    assert report.metrics["B.test.accuracy"] == 0.9
    assert report.metrics["A.seconds"] == 2.0
    accuracy = next(row for row in report.records("differences") if row["metric"] == "test.accuracy")
    assert accuracy["verdict"] == "better"
    assert accuracy["difference"] == pytest.approx(0.05)
    assert report.details["main"] == ["model.parameters"]
    assert report.details["summary"] == ["model.parameters: B is the same as A (9 against 9)"]
    (result,) = report.gates
    assert (result.condition, result.met, result.value, result.margin) == (gate, True, 9.0, 0.0)
    assert report.records("gates")[0]["bound"] == 9.0
    assert Report.model_validate_json(report.to_json()) == report


def test_without_gates_the_objectives_come_first_on_the_test_split(tmp_path: Path) -> None:
    for name in "ab":
        run_folder(
            tmp_path,
            name,
            METRICS,
            kind="search",
            workflow="tune",
            details={"objective": ["maximize validation.accuracy"]},
        )
    report = compare(["a", "b"], root=tmp_path)
    assert [row["metric"] for row in report.records("metrics")][:2] == ["test.accuracy", "validation.accuracy"]
    assert report.details["main"] == ["test.accuracy"]
    assert report.warnings == []


def test_runs_are_named_in_every_way(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELOPT_RUNS", str(root))
    again = Report.model_validate_json((root / "b" / "1" / "report.json").read_bytes())
    (root / "copy.json").write_bytes((root / "b" / "1" / "report.json").read_bytes())
    ways: list[str | Path | Report] = [
        "a",
        "a/1",
        root / "a" / "1",
        str(root / "a" / "1" / "report.json"),
        root / "copy.json",
        again,
    ]
    report = compare(ways)
    names = ["a/1", "a/1", "a/1", "a/1", str(root / "copy.json"), "b (train)"]
    assert [row["name"] for row in report.records("runs")] == names
    assert [row["run"] for row in report.records("runs")] == list("ABCDEF")
    assert "B is the same run as A" in report.warnings
    assert "settings of E and F are not known (no experiment.yaml beside the report)" in report.warnings


def test_runs_that_failed_or_are_under_way_share_what_they_have(root: Path) -> None:
    run_folder(root, "c", {}, status="failed", reason="loss became NaN\nmore")
    with RunDirectory.create(root, "d") as directory:
        directory.write_experiment({"name": "d"})
        report = compare(["a", "c", "d"], ["B.test.accuracy >= 0", "C.test.accuracy >= A.test.accuracy"], root=root)
    assert [row["status"] for row in report.records("runs")] == ["completed", "failed", "running"]
    assert report.warnings[:2] == ["B (c/1) has failed: loss became NaN", "C (d/1) is under way"]
    assert [gate.met for gate in report.gates] == [False, False]
    assert [gate.reason for gate in report.gates] == [
        "B (c/1) has no test.accuracy: it has failed",
        "C (d/1) has no test.accuracy: it is under way",
    ]
    assert {row["verdict"] for row in report.records("differences")} == {"missing"}


def test_a_gate_on_nothing_that_any_failed_run_reached_is_not_met(tmp_path: Path) -> None:
    for name in "ab":
        run_folder(tmp_path, name, {}, status="failed", reason="no")
    (gate,) = compare(["a", "b"], ["B.test.accuracy >= 0"], root=tmp_path).gates
    assert not gate.met


def test_a_search_beside_a_training_is_flattered(root: Path) -> None:
    run_folder(root, "s", METRICS, kind="search", workflow="tune")
    texts = compare(["a", "s"], root=root).warnings
    assert any(text.startswith("validation metrics of B are those of the best of several trials") for text in texts)


@pytest.mark.parametrize(
    ("runs", "gates", "message"),
    [
        (["a"], [], "takes two or more runs"),
        ("a", [], "takes two or more runs"),
        (["a"] * 27, [], "at most 26 runs"),
        (["a", "b"], ["B.test.acuracy >= 1"], "no run has the metric 'test.acuracy'; did you mean 'test.accuracy'"),
        (["a", "b"], ["test.accuracy >= 1"], r"as in B.test.accuracy; there are A \(a/1\), B \(b/1\)"),
        (["a", "b"], ["C.test.accuracy >= 1"], "'C.test.accuracy' names none of the runs"),
        (["a", "b"], ["B.test.accuracy >= A.test.accuracy-0.1"], "write a space before the minus sign"),
        (["a", "b"], ["B.test.accuracy"], "--gate: 'B.test.accuracy' is no condition"),
    ],
)
def test_what_makes_no_sense(root: Path, runs: list[str], gates: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compare(runs, gates, root=root)


def test_files_that_are_no_reports(root: Path) -> None:
    (root / "text.json").write_text("{")
    with pytest.raises(InputError, match=r"text.json is no report of modelopt; name a run"):
        compare(["a", root / "text.json"], root=root)
    with pytest.raises(InputError, match=r"there is no run 'nothing'; known names under .*: a, b"):
        compare(["a", "nothing"], root=root)
    (root / "compared.json").write_text(compare(["a", "b"], root=root).to_json())
    with pytest.raises(InputError, match="is a comparison itself"):
        compare(["a", root / "compared.json"], root=root)
