"""Compressions: each stage is what its own command does, finished ones are not repeated, all are compared."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits

from modelopt_cli.core.errors import MissingExtraError
from modelopt_cli.experiment.expected_metrics import expect_metrics
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.models.files import checkpoints
from modelopt_cli.results.report import Report
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.results.saved_run import read_run
from modelopt_cli.training.trainer import Trainer
from modelopt_cli.workflows import compress, distill, prune, train
from modelopt_cli.workflows.shared import data_cache
from modelopt_cli.workflows.shared.context import Context, EpochEnded, Progress, StopFlag

BASE: dict[str, Any] = {
    "name": "small",
    "report": False,
    "data": {"type": "digits", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "evaluation": {"latency": {"runtime": "eager", "seconds": 0.01}},
    "model": {"type": "mlp", "hidden": [24]},
    "training": {"epochs": 3, "batch_size": 64, "optimizer": {"type": "adam", "lr": 0.01}},
    "pruning": {
        "structure": "neurons",
        "importance": "l2",
        "amount": 0.5,
        "recovery": {"epochs": 2, "distillation": {}},
    },
}
DISTILLATION = {
    "teacher": {"model": {"type": "mlp", "hidden": [48]}, "training": {"epochs": 2, "batch_size": 64}},
    "baseline": False,
}

pytestmark = pytest.mark.usefixtures("quick")


def load(**sections: Any) -> Experiment:
    return Experiment.load({name: value for name, value in {**BASE, **sections}.items() if value is not None})


def run(root: Path, stopped: StopFlag | None = None, resume: bool = False, **sections: Any) -> Report:
    experiment = load(**sections)

    def emit(event: Progress) -> None:
        if stopped is not None and isinstance(event, EpochEnded) and event.step == 4:
            stopped.set(2)

    open_ = RunDirectory.newest if resume else RunDirectory.create
    with open_(root, experiment.name) as directory:
        flag = StopFlag() if stopped is None else stopped
        return compress.run(experiment, Context(directory, emit, flag, resume))


def state(path: str | Path) -> dict[str, torch.Tensor]:
    return dict(checkpoints.load(path).model.state_dict())


def alike(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for each epoch that any trainer has trained."""
    trained: list[int] = []
    advance = Trainer.advance

    def counted(self: Trainer, until: int) -> Any:
        reports = list(advance(self, until))
        trained.extend(step for step, _ in reports)
        return reports

    monkeypatch.setattr(Trainer, "advance", counted)
    return trained


def test_each_stage_does_what_its_own_command_does(tmp_path: Path) -> None:
    report = run(tmp_path)
    stages = Path(report.artefacts["directory"]) / "stages"
    alone = train.run(load(pruning=None), Context())
    assert alike(state(stages / "1-train" / "model.pt"), dict(alone.model.model.state_dict()))
    dense = {"type": "checkpoint", "path": str(stages / "1-train" / "model.pt")}
    pruned = prune.run(load(model=dense), Context())
    assert alike(state(stages / "2-prune" / "model.pt"), dict(pruned.model.model.state_dict()))
    assert alike(state(report.artefacts["model"]), dict(pruned.model.model.state_dict()))
    for split in ("validation", "test"):
        assert report.metrics[f"{split}.accuracy"] == pruned.metrics[f"{split}.accuracy"]
        assert report.metrics[f"{split}.accuracy_drop"] == pytest.approx(pruned.metrics[f"{split}.accuracy_drop"])


def test_a_student_learns_from_the_teacher_that_the_first_stage_trains(tmp_path: Path) -> None:
    report = run(tmp_path, distillation=DISTILLATION, pruning=None)
    stages = Path(report.artefacts["directory"]) / "stages"
    given = {"teacher": str(stages / "1-train" / "model.pt"), "baseline": False}
    alone = distill.run(load(distillation=given, pruning=None), Context())
    assert alike(state(report.artefacts["model"]), dict(alone.model.model.state_dict()))
    teacher, student = report.records("stages")
    assert (teacher["stage"], student["stage"]) == ("train", "distill")
    assert teacher["test.accuracy"] - student["test.accuracy"] == pytest.approx(report.metrics["test.accuracy_drop"])
    assert student["model.parameters"] / teacher["model.parameters"] == report.metrics["model.parameters_ratio"]


def test_a_row_for_the_model_after_each_stage(tmp_path: Path) -> None:
    report = run(tmp_path, distillation=DISTILLATION)
    rows = report.records("stages")
    assert [row["stage"] for row in rows] == ["train", "distill", "prune", "recover"]
    assert rows[2]["validation.accuracy"] != rows[3]["validation.accuracy"]
    assert rows[2]["model.parameters"] == rows[3]["model.parameters"] < rows[1]["model.parameters"]
    assert rows[3]["test.accuracy"] == report.metrics["test.accuracy"]
    kept = read_run(Path(report.artefacts["directory"]) / "stages" / "3-prune")
    by_stage = {row["stage"]: row for row in kept.records("stages")}
    assert by_stage["pruned"]["test.accuracy"] == rows[2]["test.accuracy"]
    assert by_stage["before"]["test.accuracy"] == rows[1]["test.accuracy"]


def test_what_is_done_is_not_done_again(tmp_path: Path, epochs: list[int]) -> None:
    first = run(tmp_path, distillation=DISTILLATION)
    assert len(epochs) == 2 + 3 + 2
    epochs.clear()
    second = run(tmp_path, distillation=DISTILLATION)
    assert not epochs
    assert second.details["taken"] == ["train", "distill", "prune"]
    assert second.metrics["test.accuracy"] == first.metrics["test.accuracy"]
    run(tmp_path, distillation=DISTILLATION, pruning={**BASE["pruning"], "amount": 0.3})
    assert len(epochs) == 2  # the late stage alone
    epochs.clear()
    run(tmp_path, distillation=DISTILLATION, training={**BASE["training"], "epochs": 4})
    assert len(epochs) == 4 + 2  # the teacher has a training section of its own
    epochs.clear()
    run(tmp_path, distillation=DISTILLATION, seed=1)
    assert len(epochs) == 2 + 3 + 2


def test_a_damaged_stage_is_made_anew(tmp_path: Path, epochs: list[int]) -> None:
    run(tmp_path)
    for record in (tmp_path / "small" / ".stages").glob("*/stage.json"):
        record.write_text(record.read_text()[:40])
    epochs.clear()
    run(tmp_path)
    assert len(epochs) == 3 + 2


def test_a_run_goes_on_within_a_stage(tmp_path: Path, epochs: list[int]) -> None:
    whole = run(tmp_path / "whole")
    epochs.clear()
    half = run(tmp_path / "half", StopFlag())
    assert half.status == "interrupted"
    assert len(epochs) == 3  # step 4 is the pruning
    rest = run(tmp_path / "half", resume=True)
    assert len(epochs) == 3 + 2
    assert rest.status == "completed"
    assert alike(state(whole.artefacts["model"]), state(rest.artefacts["model"]))
    assert rest.metrics["test.accuracy"] == whole.metrics["test.accuracy"]


def test_the_metrics_are_those_that_were_foreseen(tmp_path: Path) -> None:
    experiment = load()
    foreseen = expect_metrics(experiment, "compress")
    assert foreseen is not None
    measured = {name for name in run(tmp_path).metrics if not name.endswith("_ratio")}
    assert measured <= foreseen.possible
    assert {name for name in foreseen.possible if not name.endswith("_ratio")} - measured <= {"validation.log_loss"}


def test_exported_files_and_the_order_that_lets_a_pruned_model_learn_from_a_teacher(tmp_path: Path) -> None:
    report = run(
        tmp_path,
        distillation=DISTILLATION,
        pipeline=["train", "prune", "recover", "distill", "export"],
        export={"formats": ["pt2"]},
    )
    rows = report.records("stages")
    assert [row["stage"] for row in rows] == ["train", "prune", "recover", "distill"]
    assert rows[3]["model.parameters"] == rows[1]["model.parameters"] < rows[0]["model.parameters"]
    program = torch.export.load(report.artefacts["pt2"]).module()
    assert program is not None


def test_a_quantized_model_is_judged_and_priced_by_its_file(tmp_path: Path, epochs: list[int]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra onnx)")
    report = run(tmp_path, quantization={"method": "static", "max_drop": None})
    rows = report.records("stages")
    assert [row["stage"] for row in rows] == ["train", "prune", "recover", "quantize"]
    file = Path(report.artefacts["int8"])
    assert file.name == "model.int8.onnx"
    assert report.metrics["model.file_bytes"] == rows[3]["model.file_bytes"] == file.stat().st_size
    assert rows[3]["model.size_bytes"] < rows[2]["model.size_bytes"] / 2
    session = onnxruntime.InferenceSession(str(file))
    raw, test = load_digits(), data_cache.split_data(load()).test
    name = session.get_inputs()[0].name
    answers = session.run(None, {name: raw.data[test]})[0].argmax(1)
    assert float((answers == raw.target[test]).mean()) == pytest.approx(report.metrics["test.accuracy"], abs=0.003)
    epochs.clear()
    again = run(tmp_path, quantization={"method": "static", "max_drop": None})
    assert not epochs
    assert again.details["taken"] == ["train", "prune", "quantize"]
    assert Path(again.artefacts["int8"]).read_bytes() == file.read_bytes()
    for split in ("validation", "test"):
        assert again.metrics[f"{split}.loss"] == report.metrics[f"{split}.loss"]


def test_the_package_that_quantizes_is_asked_for_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: list[int]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match="onnx"):
        run(tmp_path, quantization={"method": "static"})
    assert not epochs
    assert not (tmp_path / "small" / ".stages").exists()


def test_without_a_directory_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = compress.run(load(), Context())
    assert report.kind == "compression"
    assert report.model.model is not None
    assert json.loads(report.to_json())["tables"]["stages"]
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_what_each_stage_takes() -> None:
    plan = compress.dry_run(load(distillation=DISTILLATION), Context()).plan
    assert list(plan["members"]) == ["train", "distill", "prune"]
    assert plan["estimated_seconds"] == pytest.approx(sum(plan["members"].values()))
