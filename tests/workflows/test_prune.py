"""The prune workflow and searches over it: tables, changes by pruning, files, further pruning and training, trials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from modelopt_cli.core.errors import UsageError
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.models.files import checkpoints
from modelopt_cli.results.report import Report, Table
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.workflows import prune, train, tune
from modelopt_cli.workflows.pruning.run import PruneRun
from modelopt_cli.workflows.runs.torch import TorchRun
from modelopt_cli.workflows.shared.context import Context, EpochEnded, StopFlag

BASE: dict[str, Any] = {
    "data": {"type": "digits", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [24, 16]},
    "training": {"epochs": 3, "batch_size": 64, "optimizer": {"type": "sgd", "lr": 0.1, "momentum": 0.9}},
    "pruning": {"amount": 0.8, "recovery": {"epochs": 2, "lr": 0.05}},
}


def experiment(**sections: Any) -> Experiment:
    return Experiment.load({**BASE, **sections})


def pruned(out: Path | None = None, **sections: Any) -> Report:
    if out is None:
        return prune.run(experiment(**sections), Context())
    with RunDirectory.create_at(out) as directory:
        return prune.run(experiment(**sections), Context(directory=directory))


def rows(table: Table) -> list[dict[str, Any]]:
    return table.records()


def zeros(path: Path) -> dict[str, torch.Tensor]:
    state = checkpoints.load(path).model.state_dict()
    return {name: tensor == 0 for name, tensor in state.items() if tensor.ndim > 1}


def test_before_pruned_and_final_stand_side_by_side_on_validation_and_test() -> None:
    report = pruned()
    before, cut, final = rows(report.tables["stages"])
    assert [row["stage"] for row in (before, cut, final)] == ["before", "pruned", "final"]
    metrics = report.metrics
    for split in ("validation", "test"):
        for row in (before, cut, final):
            assert 0 < row[f"{split}.accuracy"] <= 1
        assert metrics[f"{split}.accuracy"] == final[f"{split}.accuracy"]
        assert metrics[f"{split}.accuracy_drop"] == before[f"{split}.accuracy"] - final[f"{split}.accuracy"]
        assert metrics[f"{split}.loss_rise"] == final[f"{split}.loss"] - before[f"{split}.loss"]
    assert before["model.sparsity"] == 0
    assert cut["model.nonzero"] == final["model.nonzero"]
    assert metrics["pruning.sparsity"] == pytest.approx(0.8, abs=1e-3)
    layers = rows(report.tables["layers"])
    assert [row["tensor"] for row in layers if row["spared"] is None] == [
        "layers.0.weight", "layers.2.weight", "layers.4.weight",
    ]  # fmt: skip
    assert sum(row["zeroed"] for row in layers) == round(0.8 * (64 * 24 + 24 * 16 + 16 * 10))
    assert Report.model_validate_json(report.model_dump_json()).model_dump() == report.model_dump()


def test_before_is_the_model_that_the_training_alone_gives() -> None:
    report = pruned()
    alone = train.run(experiment(), Context())
    before = rows(report.tables["stages"])[0]
    for name in ("validation.accuracy", "validation.loss", "test.accuracy", "test.loss"):
        assert before[name] == alone.metrics[name]


def test_files_and_the_dense_model(tmp_path: Path) -> None:
    report = pruned(tmp_path / "run")
    assert {"model.pt", "dense.pt", "report.json", "stages.csv", "layers.csv", "rounds.csv", "curve.csv"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    assert json.loads((tmp_path / "run/report.json").read_text())["metrics"] == report.metrics
    dense = checkpoints.load(tmp_path / "run/dense.pt")
    assert dense.metrics["test.accuracy"] == rows(report.tables["stages"])[0]["test.accuracy"]
    again = pruned(model={"type": "checkpoint", "path": str(tmp_path / "run/dense.pt")}, training=BASE["training"])
    assert again.metrics["test.loss"] == report.metrics["test.loss"], "pruning dense.pt is pruning what was trained"


def test_pruned_further_and_trained_on_every_zero_stays(tmp_path: Path) -> None:
    pruned(tmp_path / "first", pruning={"amount": 0.6})
    first = zeros(tmp_path / "first/model.pt")
    model = {"type": "checkpoint", "path": str(tmp_path / "first/model.pt")}
    further = {"amount": 0.8, "importance": "random", "recovery": {"epochs": 2, "lr": 0.05}}
    pruned(tmp_path / "second", model=model, pruning=further)
    second = zeros(tmp_path / "second/model.pt")
    chosen = experiment(model={"type": "checkpoint", "path": str(tmp_path / "second/model.pt")})
    with RunDirectory.create_at(tmp_path / "third") as directory:
        train.run(chosen, Context(directory=directory))
    (tmp_path / "first/model.pt").unlink()
    (tmp_path / "second/model.pt").unlink()
    third = zeros(tmp_path / "third/model.pt")
    for name, mask in first.items():
        assert not bool((mask & ~second[name]).any())
        assert not bool((second[name] & ~third[name]).any())
    assert sum(int(mask.sum()) for mask in second.values()) == round(0.8 * 2080)
    saved = checkpoints.load(tmp_path / "third/model.pt")
    assert saved.architecture.name() == "mlp"
    assert set(saved.extra["masks"]) == set(second)


def test_zeros_of_a_layer_that_is_left_alone_now_stay_too(tmp_path: Path) -> None:
    pruned(tmp_path / "first", pruning={"amount": 0.6})
    first = zeros(tmp_path / "first/model.pt")
    model = {"type": "checkpoint", "path": str(tmp_path / "first/model.pt")}
    further = {"amount": 0.8, "exclude": ["layers.0.weight"], "recovery": {"epochs": 1}}
    pruned(tmp_path / "second", model=model, pruning=further)
    second = zeros(tmp_path / "second/model.pt")
    assert not any(bool((mask & ~second[name]).any()) for name, mask in first.items())


def test_an_interrupted_pruning_goes_on_to_the_same_model(tmp_path: Path) -> None:
    whole = pruned()
    stop = StopFlag()

    def count(event: Any) -> None:
        if isinstance(event, EpochEnded) and event.step == 5:
            stop.set(2)

    with RunDirectory.create_at(tmp_path / "run") as directory:
        first = prune.run(experiment(), Context(directory=directory, emit=count, stop=stop))
    assert first.status == "interrupted"
    assert not (tmp_path / "run/model.pt").exists()
    with RunDirectory.create_at(tmp_path / "run", resume=True) as directory:
        report = prune.run(experiment(), Context(directory=directory, resume=True))
    for name in ("test.loss", "test.loss_rise", "validation.loss"):
        assert report.metrics[name] == whole.metrics[name]
    assert len(report.tables["curve"].rows) == 6


def test_a_floor_holds_and_an_emptied_layer_is_named() -> None:
    report_all = pruned(pruning={"threshold": 100.0, "include": ["layers.4.weight"]})
    assert any("layers.4.weight" in warning and "keep_at_least" in warning for warning in report_all.warnings)
    held = pruned(pruning={"amount": 0.95, "keep_at_least": 0.04, "importance": "gradient"})
    shares = [row["sparsity"] for row in rows(held.tables["layers"]) if row["spared"] is None]
    assert max(shares) <= 0.96
    assert held.metrics["pruning.sparsity"] == pytest.approx(0.95, abs=1e-3)
    assert held.warnings == []


def test_the_sensitivity_curve_has_a_row_for_every_tensor_and_level() -> None:
    pruning = {"amount": 0.7, "allocation": {"type": "sensitivity", "levels": [0.5, 0.9]}}
    measured = rows(pruned(pruning=pruning).tables["sensitivity"])
    assert [row["tensor"] for row in measured] == [f"layers.{number}.weight" for number in (0, 2, 4) for _ in range(3)]
    assert [row["sparsity"] for row in measured] == pytest.approx([0.0, 0.5, 0.9] * 3, abs=5e-3)
    assert len({row["validation.loss"] for row in measured[::3]}) == 1, "nothing removed: the same loss each time"


def test_started_from_the_initial_weights_the_recovery_is_the_training() -> None:
    report = pruned(pruning={"amount": 0.5, "importance": "snip", "start": "initial"})
    before, _, final = rows(report.tables["stages"])
    assert before["test.accuracy"] < 0.3
    assert final["test.accuracy"] > 0.7
    assert len(report.tables["curve"].rows) == 4


@pytest.mark.parametrize("rewind", [3, 7])
def test_a_ticket_cannot_be_rewound_to_an_epoch_that_leaves_nothing_to_train(rewind: int) -> None:
    with pytest.raises(UsageError, match="rewind"):
        pruned(pruning={"amount": 0.5, "schedule": {"type": "lottery", "rounds": 2, "rewind": rewind}})


def test_a_training_that_stops_before_the_epoch_to_rewind_to_is_told() -> None:
    training = {**BASE["training"], "epochs": 9, "patience": 1, "optimizer": {"type": "sgd", "lr": 0.0}}
    with pytest.raises(UsageError, match="rewind"):
        pruned(training=training, pruning={"amount": 0.5, "schedule": {"type": "lottery", "rewind": 5}})


def searched(
    monkeypatch: pytest.MonkeyPatch, space: dict[str, Any], out: Path | None, **given: Any
) -> tuple[Report, int, int]:
    """The report, the epochs of training the shared model, and the epochs of training within trials."""
    shared: list[int] = []
    own: list[int] = []

    class Counted(TorchRun):
        def advance(self, until: int) -> Any:
            reports = super().advance(until)
            shared.extend(step for step, _ in reports)
            return reports

    advance = PruneRun.advance

    def counted(run: PruneRun, until: int) -> Any:
        reports = []
        while run.step < min(until, run.total):
            own.extend([1] if run.doing == "training" else [])
            reports += advance(run, run.step + 1)
        return reports

    monkeypatch.setattr("modelopt_cli.workflows.search.model_cache.TorchRun", Counted)
    monkeypatch.setattr(PruneRun, "advance", counted)
    tuning = {
        "workflow": "prune", "objective": "maximize validation.accuracy", "sampler": "random", "executor": "serial",
        "trials": 3, "space": space, **given,
    }  # fmt: skip
    chosen = experiment(tuning=tuning, pruning={"amount": 0.7, "recovery": {"epochs": 1}})
    if out is None:
        return tune.run(chosen, Context()), len(shared), len(own)
    with RunDirectory.create_at(out) as directory:
        return tune.run(chosen, Context(directory=directory)), len(shared), len(own)


SPACE = {"pruning.amount": {"float": [0.2, 0.9]}, "pruning.importance": ["magnitude", "taylor"]}


def test_trials_that_differ_in_pruning_alone_share_one_trained_model(monkeypatch: pytest.MonkeyPatch) -> None:
    report, shared, own = searched(monkeypatch, SPACE, None, constraints=["model.sparsity >= 0.5"])
    assert (shared, own) == (3, 0)
    assert report.best is not None
    assert report.best["metrics"]["model.sparsity"] >= 0.5
    assert report.metrics["test.accuracy"] > 0.5


@pytest.mark.slow
def test_trials_that_differ_in_training_train_each(monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"pruning.amount": [0.5, 0.9], "training.optimizer.lr": {"float": [0.01, 0.1]}}
    report, shared, own = searched(monkeypatch, space, None)
    assert (shared, own) == (0, 4 * 3), "three trials, and the best one again for its tables"
    accuracies = {row["validation.accuracy"] for row in rows(report.tables["trials"])}
    assert len(accuracies) > 1


@pytest.mark.slow
def test_best_yaml_gives_the_best_trials_test_metrics_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report, _, _ = searched(monkeypatch, SPACE, tmp_path / "search")
    again = prune.run(Experiment.load(tmp_path / "search/best.yaml"), Context())
    for name in ("test.accuracy", "test.loss", "test.accuracy_drop", "validation.loss"):
        assert again.metrics[name] == report.metrics[name]
