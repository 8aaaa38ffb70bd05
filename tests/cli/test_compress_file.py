"""`modelopt compress model.pt`: a trained model made as small as its drop allows, from the command line alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from modelopt_cli import load, train
from modelopt_cli.models.files import checkpoints
from modelopt_cli.models.measure import macs
from modelopt_cli.training.evaluation import Evaluator
from modelopt_cli.workflows.compression.target.tries import KEPT, Tries, Try
from modelopt_cli.workflows.shared.context import Context
from tests.support.cli import Cli

SECTIONS: dict[str, Any] = {
    "name": "small",
    "data": {"type": "digits", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [48, 24]},
    "training": {"epochs": 12, "batch_size": 64, "optimizer": {"type": "sgd", "lr": 0.1, "momentum": 0.9}},
    "evaluation": {"latency": {"runtime": "eager", "seconds": 0.01}},
}
PRUNING = {
    "structure": "neurons",
    "importance": "l2",
    "compensation": "least_squares",
    "allocation": "uniform",
    "calibration": 512,
    "budget": {"flops": "50%"},
    "recovery": {"epochs": 3},
}
FLOPS, DROP = "model.flops <= 30%", "validation.accuracy 0.02"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A trained model.pt."""
    path = tmp_path_factory.mktemp("trained") / "model.pt"
    checkpoints.save(path, train(load(SECTIONS)).model)
    return path.read_bytes()


@pytest.fixture
def model(trained: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    path.write_bytes(trained)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """What the model was trained on, and how it is pruned."""
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps({"version": 1, **SECTIONS, "pruning": PRUNING}))
    return path


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return content


def rows(document: dict[str, Any], table: str) -> list[dict[str, Any]]:
    content = document["tables"][table]
    return [dict(zip(content["columns"], row, strict=True)) for row in content["rows"]]


@pytest.mark.slow
def test_a_target_is_met_by_the_most_accurate_model(cli: Cli, model: Path, file: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    result = cli("compress", model, "--experiment", file, "--target", FLOPS, "--trials", 5)
    assert result.code == 0, result.err
    folder = tmp_path / "runs" / "small" / "1"
    document = report(folder)
    assert (document["kind"], document["workflow"]) == ("compression", "compress")
    small = checkpoints.load(folder / "model.pt")
    dense = checkpoints.load(model)
    batch = torch.zeros(1, 64)
    share = macs(small.model, batch)[""] / macs(dense.model, batch)[""]
    assert share <= 0.3
    assert document["metrics"]["model.flops_ratio"] == pytest.approx(share)
    assert model.read_bytes() == before
    tries = rows(document, "tries")
    assert 2 <= len(tries) <= 5
    assert [row["try"] for row in tries] == list(range(1, len(tries) + 1))
    assert sum("chosen" in row["verdict"] for row in tries) == 1
    stages = rows(document, "stages")
    assert [row["stage"] for row in stages] == ["dense", "pruned", "recovered"]
    assert stages[0]["test.accuracy"] == pytest.approx(dense.metrics["test.accuracy"])
    assert document["gates"] == [pytest.approx(gate) for gate in document["gates"] if gate["met"]]
    again = cli("evaluate", folder / "model.pt", "--json")
    assert json.loads(again.out)["metrics"]["test.accuracy"] == document["metrics"]["test.accuracy"]
    assert (folder / "model.pt2").exists()
    for text in ("chosen", "tries", "test.accuracy", "model.flops_ratio <= 0.3"):
        assert text in result.out, text


@pytest.mark.slow
def test_the_smallest_is_found_whose_drop_is_allowed(cli: Cli, model: Path, file: Path, tmp_path: Path) -> None:
    result = cli("compress", model, "--experiment", file, "--max-drop", DROP, "--trials", 10, "-q")
    assert result.code == 0, result.err
    document = report(tmp_path / "runs" / "small" / "1")
    assert document["metrics"]["validation.accuracy_drop"] <= 0.02 + 1e-9
    assert document["metrics"]["model.macs_ratio"] < 0.6
    made = [row for row in rows(document, "tries") if row["model.macs"] is not None]
    allowed = [row for row in made if row["drop"] is not None and row["drop"] <= 0.02 and row["epochs"] == 3]
    assert document["metrics"]["model.macs"] == min(row["model.macs"] for row in allowed)


@pytest.mark.slow
def test_a_target_that_costs_too_much_ends_with_3_and_tells_what_came_nearest(
    cli: Cli, model: Path, file: Path, tmp_path: Path
) -> None:
    junit = tmp_path / "gates.xml"
    demanded = ("--target", "model.flops <= 2%", "--max-drop", "validation.accuracy 0")
    result = cli("compress", model, "--experiment", file, *demanded, "--trials", 8, "--junit", junit)
    assert result.code == 3, result.err
    folder = tmp_path / "runs" / "small" / "1"
    document = report(folder)
    assert not (folder / "model.pt").exists()
    assert (folder / "at_target.pt").exists()
    said = " ".join(document["warnings"])
    assert "there is no model.pt" in said
    assert "at_target.pt meets model.flops <= 2%, its validation.accuracy drops by" in said
    small = checkpoints.load(folder / "at_target.pt")
    assert (
        macs(small.model, torch.zeros(1, 64))[""] <= 0.02 * macs(checkpoints.load(model).model, torch.zeros(1, 64))[""]
    )
    assert not all(gate["met"] for gate in document["gates"])
    assert "<failure" in junit.read_text()


@pytest.mark.slow
def test_what_cannot_be_made_at_all_ends_with_3(cli: Cli, model: Path, file: Path, tmp_path: Path) -> None:
    result = cli("compress", model, "--experiment", file, "--target", "model.parameters <= 5", "--trials", 6, "-q")
    assert result.code == 3, result.err
    folder = tmp_path / "runs" / "small" / "1"
    assert (folder / "nearest.pt").exists()
    assert not (folder / "model.pt").exists()
    assert "nearest.pt has" in " ".join(report(folder)["warnings"])
    rows = csv.DictReader((folder / "tries.csv").read_text().splitlines())
    unmade = [row for row in rows if row["verdict"].startswith("cannot be made: ")]
    assert unmade
    shown = " ".join(cli("show", folder).out.split())
    tries = f"{'try' if len(unmade) == 1 else 'tries'} {', '.join(row['try'] for row in unmade)}"
    assert f"cannot be made ({tries}): " in shown, "the table has no room for reasons, so one stands below it"
    assert shown.count(unmade[-1]["verdict"].removeprefix("cannot be made: ")[:40]) == 1


@pytest.mark.slow
def test_the_test_split_is_read_once_for_each_model_at_the_end(
    cli: Cli, model: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    measure, attempt = Evaluator.measure, Tries.attempt

    def measured(self: Evaluator, module: Any, split: str, *others: Any, **more: Any) -> dict[str, float]:
        read.append(split)
        return measure(self, module, split, *others, **more)

    def tried(self: Tries, *arguments: Any, **options: Any) -> Try:
        read.append("try")
        return attempt(self, *arguments, **options)

    monkeypatch.setattr(Evaluator, "measure", measured)
    monkeypatch.setattr(Tries, "attempt", tried)
    result = cli("compress", model, "--experiment", file, "--target", FLOPS, "--max-drop", DROP, "--trials", 5, "-q")
    assert result.code in (0, 3), result.err
    last = len(read) - 1 - read[::-1].index("try")
    assert "test" not in read[:last]
    assert read.count("test") == 3  # of the given model, of what was left of it, and of the recovered one


@pytest.mark.slow
def test_a_target_that_the_model_meets_already_does_nothing(cli: Cli, model: Path, file: Path, tmp_path: Path) -> None:
    result = cli("compress", model, "--experiment", file, "--target", "model.parameters <= 1_000_000")
    assert result.code == 0, result.err
    folder = tmp_path / "runs" / "small" / "1"
    assert not (folder / "model.pt").exists()
    assert "meets model.parameters <= 1,000,000 as it is" in " ".join(report(folder)["warnings"])


@pytest.mark.slow
def test_bare_weights_are_those_of_the_files_model(cli: Cli, model: Path, file: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    torch.save(checkpoints.load(model).model.state_dict(), weights)
    lacking = tmp_path / "lacking.yaml"
    without = {key: value for key, value in SECTIONS.items() if key not in ("model", "evaluation")}
    lacking.write_text(json.dumps({"version": 1, **without}))
    refused = cli("compress", weights, "--experiment", lacking, "--target", FLOPS)
    assert refused.code == 2
    assert "model section" in refused.err
    result = cli("compress", weights, "--experiment", file, "--target", FLOPS, "--trials", 4, "-q")
    assert result.code == 0, result.err
    assert checkpoints.load(tmp_path / "runs" / "small" / "1" / "model.pt").metrics["model.flops"] > 0


@pytest.mark.slow
def test_a_stopped_search_goes_on_where_it_was(
    cli: Cli, model: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("compress", model, "--experiment", file, "--max-drop", DROP, "--trials", 6)
    folder = tmp_path / "runs" / "small"
    assert cli(*arguments, "-q").code == 0
    whole = report(folder / "1")
    attempt = Tries.attempt

    def stopping(self: Tries, *given: Any, **options: Any) -> Try:
        if len(self.all) == 3:
            context: Context = self._context  # the user's signal, which a test cannot send at this very time
            context.stop.set(2)
        return attempt(self, *given, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Tries, "attempt", stopping)
        stopped = cli(*arguments, "-q")
    assert stopped.code == 130, stopped.err
    assert "--resume" in stopped.err
    assert report(folder / "2")["status"] == "interrupted"
    assert len(rows(report(folder / "2"), "tries")) == 3
    assert not (folder / "2" / "model.pt").exists()
    emitted: list[str] = []
    course = Tries._course  # what is emitted, to see that nothing is tried again

    def heard(self: Tries, *given: Any) -> None:
        emitted.append("tried")
        course(self, *given)

    monkeypatch.setattr(Tries, "_course", heard)
    again = cli(*arguments, "--resume", "-q")
    assert again.code == 0, again.err
    assert len(emitted) == 2 * (len(rows(whole, "tries")) - 3)
    resumed = report(folder / "2")
    assert not (folder / "2" / KEPT).exists()
    for name in ("validation.accuracy", "test.accuracy", "model.macs"):
        assert resumed["metrics"][name] == whole["metrics"][name]
    kept = [name for name in rows(whole, "tries")[0] if name != "seconds"]
    assert [[row[name] for name in kept] for row in rows(resumed, "tries")] == [
        [row[name] for name in kept] for row in rows(whole, "tries")
    ]


@pytest.mark.slow
def test_a_dry_run_tells_how_many_tries_and_how_long(cli: Cli, model: Path, file: Path, tmp_path: Path) -> None:
    result = cli("compress", model, "--experiment", file, "--target", FLOPS, "--dry-run", "--json")
    assert result.code == 0, result.err
    plan = json.loads(result.out)["plan"]
    assert plan["tries"] == 20
    assert plan["estimated_seconds"] > 0
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "--experiment FILE"),
        (["--experiment", "small.yaml"], "say what the smaller model must be"),
        (["--experiment", "small.yaml", "--target", "model.speed <= 50%"], "not what a model costs"),
        (["--experiment", "small.yaml", "--target", "model.flops <= 120%"], "more than the given model has"),
        (["--experiment", "small.yaml", "--max-drop", "test.accuracy 0.01"], "read once, at the end"),
        (["--experiment", "small.yaml", "--max-drop", "validation.acc 0.01"], "Did you mean"),
        (["--experiment", "small.yaml", "--target", FLOPS, "--trials", "3"], "at least 4"),
        (["--experiment", "small.yaml", "--target", FLOPS, "--timeout", "0"], "above 0"),
        (["--experiment", "small.yaml", "--target", FLOPS, "--set", "data=null"], "no data section"),
        (["--experiment", "small.yaml", "--target", FLOPS, "--set", "seeds=3"], "seeds is 3"),
        (["--experiment", "small.yaml", "--target", FLOPS, "--set", "data.splits.validation=0"], "validation"),
        (["--experiment", "small.yaml", "--target", FLOPS, "--gate", "test.acc >= 0"], "did you mean"),
        (["--experiment", "small.yaml", "--target", "model.latency_ms_7 <= 50%"], "batch_sizes"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    cli: Cli, model: Path, file: Path, tmp_path: Path, options: list[str], reason: str
) -> None:
    assert file.exists()
    result = cli("compress", model, *options)
    assert result.code == 2, result.err
    assert reason in result.err
    assert result.err.count("\n") <= 3
    assert not list((tmp_path / "runs").rglob("*.*"))


def test_an_estimator_is_refused(cli: Cli, file: Path, tmp_path: Path) -> None:
    forest = {"type": "sklearn", "estimator": "sklearn.ensemble.RandomForestClassifier", "n_estimators": 3}
    sections = {"data": SECTIONS["data"], "model": forest}
    checkpoints.save(tmp_path / "forest.pt", train(load(sections)).model)
    result = cli("compress", tmp_path / "forest.pt", "--experiment", file, "--target", FLOPS)
    assert result.code == 2
    assert "name a torch model" in result.err


@pytest.mark.slow
def test_zeros_give_way_to_units_and_other_sections_are_said_to_be_unused(
    cli: Cli, model: Path, file: Path, tmp_path: Path
) -> None:
    tuning = {"objective": "maximize validation.accuracy", "space": {"training.optimizer.lr": [0.1]}, "trials": 1}
    sections = {**SECTIONS, "pruning": {"amount": 0.9, "calibration": 128}, "tuning": tuning}
    file.write_text(json.dumps({"version": 1, **sections}))
    result = cli("compress", model, "--experiment", file, "--target", FLOPS, "--trials", 4, "-q")
    assert result.code == 0, result.err
    said = " ".join(report(tmp_path / "runs" / "small" / "1")["warnings"])
    assert "pruning.structure is weights" in said
    assert "the tuning section is not used" in said


@pytest.mark.slow
def test_with_a_quantization_section_the_target_counts_for_the_int8_file(
    cli: Cli, model: Path, file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime, which quantizes, is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript, which writes ONNX files, is not installed")
    sections = {**SECTIONS, "pruning": PRUNING, "quantization": {"samples": 64, "max_drop": None}}
    file.write_text(json.dumps({"version": 1, **sections}))
    target = "model.size_bytes <= 20%"
    result = cli("compress", model, "--experiment", file, "--target", target, "--trials", 6, "-q")
    assert result.code == 0, result.err
    folder = tmp_path / "runs" / "small" / "1"
    document = report(folder)
    assert (folder / "model.int8.onnx").exists()
    stages = rows(document, "stages")
    assert [row["stage"] for row in stages][-1] == "int8"
    assert document["metrics"]["validation.accuracy"] == stages[-1]["validation.accuracy"]
    assert document["metrics"]["model.file_bytes"] == (folder / "model.int8.onnx").stat().st_size
    assert document["metrics"]["model.size_bytes_ratio"] <= 0.2
    # The float model alone does not meet it, so that the target was counted for the file.
    assert stages[-1]["model.size_bytes"] < stages[-2]["model.size_bytes"]
    again = cli("evaluate", folder / "model.pt", "--json")
    assert json.loads(again.out)["metrics"]["test.accuracy"] == stages[-2]["test.accuracy"]
