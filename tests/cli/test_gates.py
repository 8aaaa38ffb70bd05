"""Gates on drops and ratios, from the file and the command line; what CI systems are told of them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from modelopt_cli.workflows.shared import costs
from tests.support.cli import Cli

SECTIONS = {
    "prune": "pruning: {structure: neurons, importance: l1, amount: 0.5}\n",
    "distill": "distillation: {teacher: {model: {type: mlp, hidden: [64]}, training: {epochs: 3}}}\n",
}
# What the file and the command line ask for, met and not met.
GATES = [
    "model.latency_ms_ratio <= 1e+09",
    "model.macs_ratio <= 0.9",
    "test.accuracy_drop <= 1",
    "test.loss_rise <= 100",
]


def experiment(section: str, gates: object) -> str:
    return (
        "name: gated\n"
        "data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}\n"
        "model: {type: mlp, hidden: [16]}\n"
        "training: {epochs: 2}\n"
        f"{section}gates: {json.dumps(gates)}\n"
    )


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "SECONDS", 0.01)


@pytest.mark.slow
@pytest.mark.parametrize("workflow", ["prune", "distill"])
def test_drops_and_ratios_are_gates(cli: Cli, workflow: str) -> None:
    Path("e.yaml").write_text(experiment(SECTIONS[workflow], GATES))
    own = "model.parameters_ratio <= 0.0001"
    result = cli(workflow, "e.yaml", "--out", "run", "--quiet", "--junit", "gates.xml", "--gate", own)
    assert result.code == 3
    assert "gate not met: model.parameters_ratio <= 0.0001 (value 0." in result.err
    report = json.loads(Path("run/report.json").read_text())
    assert {gate["condition"]: gate["met"] for gate in report["gates"]} == {**dict.fromkeys(GATES, True), own: False}
    before, after = ("before", "after") if workflow == "prune" else ("teacher", "student")
    names = {"parameters": "model.parameters_ratio", "ms for a batch of 64": "model.latency_ms_64_ratio"}
    columns = report["tables"]["costs"]["columns"]
    rows = {row[0]: dict(zip(columns, row, strict=True)) for row in report["tables"]["costs"]["rows"]}
    for what, metric in names.items():
        assert report["metrics"][metric] == pytest.approx(rows[what][after] / rows[what][before])
    root = ElementTree.parse("gates.xml").getroot()
    cases = {case.get("name"): case.find("failure") is None for case in root.iter("testcase")}
    assert cases == {**dict.fromkeys(GATES, True), own: False}


def test_a_ratio_that_is_never_reported_is_refused(cli: Cli) -> None:
    Path("e.yaml").write_text(experiment(SECTIONS["prune"], ["model.latency_ms_128_ratio <= 0.5"]))
    refused = cli("validate", "e.yaml")
    assert refused.code == 2
    assert "e.yaml:6:" in refused.err
    assert "model.latency_ms_128_ratio" in refused.err
    assert cli("validate", "e.yaml", "--set", "evaluation.latency.batch_sizes=[1, 128]").code == 0
    plain = cli("train", "e.yaml", "--set", "gates=[]", "--gate", "model.latency_ms_ratio <= 0.5")
    assert plain.code == 2
    assert "will not be reported" in plain.err


@pytest.mark.slow
def test_github_is_told_beside_what_everyone_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("e.yaml").write_text(experiment("", ["test.accuracy >= 0", "test.accuracy >= 101%"]))
    plain = cli("train", "e.yaml", "--json")
    assert "::error" not in plain.out + plain.err
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(Path("summary.md").resolve()))
    ours = cli("train", "e.yaml", "--json")
    assert ours.code == plain.code == 3
    assert json.loads(ours.out)["gates"][0]["met"], "standard output holds the document alone"
    lines = [line for line in ours.err.splitlines() if line.startswith("::")]
    assert len(lines) == 1
    assert lines[0].startswith("::error title=modelopt train%3A gate not met::gated: test.accuracy >= 1.01 is not met")
    assert Path("summary.md").read_text().count("met |") == 2


def test_of_a_file_of_weights_what_is_left_is_a_gate(cli: Cli) -> None:
    import torch

    torch.manual_seed(0)
    torch.save(torch.nn.Linear(64, 64).state_dict(), "m.pt")
    words = ("prune", "m.pt", "--amount", "0.75", "--json")
    gates = ("--gate", "model.nonzero_ratio <= 0.3", "--gate", "model.compressed_bytes_ratio <= 0.8")
    report = json.loads(cli(*words, *gates).out)
    assert all(gate["met"] for gate in report["gates"])
    before, after = report["details"]["before"], report["metrics"]
    for name in ("model.nonzero", "model.size_bytes", "model.compressed_bytes"):
        assert after[f"{name}_ratio"] == pytest.approx(after[name] / before[name])
    assert cli(*words, "--out", "other.pt", "--gate", "model.nonzero_ratio <= 0.1").code == 3
    assert cli(*words, "--out", "more.pt", "--gate", "model.latency_ms_ratio <= 0.1").code == 2


@pytest.mark.slow
def test_gates_on_the_time_of_a_saved_model(cli: Cli, quick: Path) -> None:
    assert cli("train", quick, "--quiet", "--out", "run").code == 0
    words = ("evaluate", "run/model.pt", "--runtime", "eager", "--batch-size", "3", "--batch-size", "2", "--json")
    result = cli(*words, "--gate", "model.latency_ms <= 1e+09", "--gate", "model.latency_ms_2 <= 0")
    assert result.code == 3
    report = json.loads(result.out)
    assert [gate["met"] for gate in report["gates"]] == [True, False]
    columns, rows = report["tables"]["latency"]["columns"], report["tables"]["latency"]["rows"]
    medians = {row[columns.index("batch size")]: row[columns.index("median ms")] for row in rows}
    assert medians == {3: report["metrics"]["model.latency_ms"], 2: report["metrics"]["model.latency_ms_2"]}
    shown = cli("evaluate", "run/model.pt", "--runtime", "eager", "--threads", "2").out
    assert "latency of a batch" in shown
    assert "on cpu, 2 threads, float32 inputs" in shown
