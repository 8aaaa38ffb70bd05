"""What a terminal shows at 80 and at 120 columns: nothing wider than it, no word broken, values whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.core.readable import aligned, figure, measure, plural
from modelopt_cli.results.report import GateResult, Kind, Report, Table
from tests.support.cli import Cli

METRICS = {
    f"{split}.{name}": 0.9 + at / 1000
    for split in ("validation", "test")
    for at, name in enumerate(("loss", "accuracy", "balanced_accuracy", "precision", "precision_weighted", "recall",
                               "recall_weighted", "f1", "f1_weighted", "roc_auc"))
}  # fmt: skip
WARNING = "the split is small " + "so that what it tells is uncertain " * 5
GATE = GateResult(condition="test.accuracy >= 0.8", met=True, value=0.901, margin=0.101)
LONG = "encoder.layers.0.self_attention.query_projection_of_a_long_name.weight"


def report(kind: Kind, **fields: Any) -> Report:
    workflow = {"search": "tune", "pruning": "prune", "distillation": "distill"}.get(kind, "train")
    folder = Path.cwd() / "runs/n/1"
    artefacts = {"report": str(folder / "report.json"), "page": str(folder / "report.html")}
    common = {"metrics": METRICS, "gates": [GATE], "warnings": [WARNING], "artefacts": artefacts, "seconds": 15.0}
    return Report(kind=kind, workflow=workflow, name="n", **{**common, **fields})


def training() -> Report:
    classes = Table(columns=["split", "class", "samples"], rows=[["test", "a", 30], ["test", "b", 10]])
    return report("training", tables={"classes": classes}, plan={"estimated_seconds": 12.34})


def search() -> Report:
    rows = [[0, "completed", "file", 0.9, 21_436, 0.1], [1, "completed", "sampler", 0.95, 1_482, 0.2]]
    columns = ["trial", "state", "origin", "validation.accuracy", "model.parameters", "training.optimizer.lr"]
    best = {"number": 1, "params": {"training.optimizer.lr": 0.2}, "metrics": {"validation.accuracy": 0.95}, "seed": 0}
    details = {"objective": ["maximize validation.accuracy"], "workflow": "train"}
    return report("search", best=best, tables={"trials": Table(columns=columns, rows=rows)}, details=details)


def pruning() -> Report:
    before = {"stage": "before", **METRICS, "model.nonzero": 90_000, "model.sparsity": 0.0}
    stages = [before, {**before, "stage": "final", "test.accuracy": 0.8, "model.nonzero": 1, "model.sparsity": 0.9}]
    layer = {"tensor": LONG, "shape": "1024x1024", "weights": 1 << 20, "zero before": 0, "zeroed": 1 << 19,
             "sparsity": 0.5, "spared": None}  # fmt: skip
    tables = {"stages": Table.from_records(stages), "layers": Table.from_records([layer, layer])}
    return report("pruning", tables=tables, details={"asked": {"amount": 0.9}, "spared": {"a bias": 1}})


def distillation() -> Report:
    rows = [{"learner": name, "epoch": 3, "turn": "last", "kept": True, **METRICS, "test.accuracy": value}
            for name, value in (("teacher", 0.99), ("student alone", 0.9), ("student", 0.93))]  # fmt: skip
    metrics = {**METRICS, "test.gap_closed": 1 / 3}
    return report("distillation", metrics=metrics, tables={"learners": Table.from_records(rows)})


MAKERS = {"training": training, "search": search, "pruning": pruning, "distillation": distillation}
ENDS = {
    "training": ["test.accuracy 0.9010 (validation 0.9010)", "always answering a would have 0.7500"],
    "search": ["validation.accuracy 0.9500 (trial 1 of 2)", "own values: validation.accuracy 0.9000 (+0.0500)"],
    "pruning": ["test.accuracy 0.9010 before, 0.8000 after (-0.1010)", "validation.accuracy 0.9010 before"],
    "distillation": ["test.accuracy student 0.9300, alone 0.9000 (+0.0300), teacher 0.9900; 33%", "of the gap closed"],
}  # fmt: skip


def shown(cli: Cli, made: Report, width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    folder = Path("runs/n/1")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(made.model_dump_json())
    result = cli("show", "n")
    assert result.code == 0, result.err
    return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in result.out.splitlines()]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_report_fits_and_ends_with_what_came_of_it(
    cli: Cli, kind: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    lines = shown(cli, MAKERS[kind](), width, monkeypatch)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert WARNING.strip() in text, "broken between words alone"
    assert not any(set(line.split()[1:]) == {"–"} for line in lines), "a column of dashes"
    at = next(number for number, line in enumerate(lines) if line.startswith("result"))
    end = " ".join(" ".join(lines[at:]).split())
    for part in ENDS[kind]:
        assert " ".join(part.split()) in end
    assert any(line.startswith("gate") and "test.accuracy >= 0.8" in line for line in lines[at:])
    assert "report       runs/n/1/report.html" in lines[at:]


def test_a_gate_names_a_metric_first_and_the_time_has_one_form(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(cli, training(), 80, monkeypatch)
    assert "time: about 12 s; took 15.0 s" in lines
    rows = [line.split()[0] for line in lines if line.startswith(" ") and line.strip()]
    assert rows[:3] == ["metric", "─" * len(rows[1]), "accuracy"]
    assert "recall" not in rows, "at first glance"
    assert any("7 more in report.json" in line for line in lines)
    gate = GATE.model_copy(update={"condition": "test.recall >= 0.8"})
    lines = shown(cli, training().model_copy(update={"gates": [gate]}), 80, monkeypatch)
    assert [line.split()[0] for line in lines if line.startswith(" ") and line.strip()][2] == "recall"


@pytest.mark.parametrize(("variables", "coloured"), [({}, False), ({"FORCE_COLOR": "1"}, True),
                                                     ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)])  # fmt: skip
def test_colours_only_where_they_are_wanted(
    cli: Cli, variables: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    Path("runs/n/1").mkdir(parents=True)
    Path("runs/n/1/report.json").write_text(search().model_dump_json())
    assert bool(re.search(r"\x1b\[(\d;)?3\d", cli("show", "n").out)) is coloured


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_runs_never_cut_a_date_or_a_value(cli: Cli, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    reason = "RuntimeError: the samples of the class are fewer than the folds that were asked for"
    cases: dict[str, dict[str, Any]] = {
        "good": {"details": {"objective": ["maximize validation.accuracy"]}},
        "bad": {"status": "failed", "reason": reason, "metrics": {}},
    }
    for name, fields in cases.items():
        Path(f"runs/{name}/1").mkdir(parents=True)
        made = report("search", started="2026-11-30T14:08:00+00:00", **fields)
        Path(f"runs/{name}/1/report.json").write_text(made.model_dump_json())
    out = cli("runs").out
    assert out.count("2026-11-30 14:08") == 2
    assert "validation.accuracy 0.901" in out
    assert "…" not in out
    words = set(out.split())
    assert set(reason.split()) <= words, "no word is broken"


def test_words_and_numbers() -> None:
    assert [plural(1, "parameter"), plural(2, "class", "classes"), plural(1200, "trial")] == [
        "1 parameter", "2 classes", "1,200 trials"]  # fmt: skip
    assert aligned(["0.5", "12", "–"]) == [" 0.5", "12  ", " –  "]
    assert [figure(0.913), figure(1204.46), figure(9.7e-5), figure(float("nan"))] == [
        "0.9130",
        "1,204.5",
        "9.7e-05",
        "nan",
    ]
    assert measure("model.parameters", 19383.0) == "19,383"
    assert measure("model.size_bytes", 11112.0) == "11.1 kB"
    assert measure("validation.accuracy", 1.0) == "1.0000"
