"""Units taken out in the prune workflow: smaller models that are judged, saved, loaded, gone on with and searched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelopt_cli import load, prune, train, tune
from modelopt_cli.core.errors import ExperimentError, UsageError
from modelopt_cli.data.preprocessing import Preprocessing
from modelopt_cli.models import latency as timing
from modelopt_cli.models.files import checkpoints
from modelopt_cli.models.graph import capture, network
from modelopt_cli.models.graph.emitted import Emitted
from modelopt_cli.training.trainer import Trainer

BASE: dict[str, Any] = {
    "data": {"type": "digits", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [32, 16]},
    "training": {"epochs": 2, "batch_size": 64, "optimizer": {"type": "sgd", "lr": 0.1, "momentum": 0.9}},
}


def experiment(**pruning: Any) -> Any:
    pruning = {"structure": "neurons", **pruning}
    return load({**BASE, "pruning": pruning})


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("apply", ["module", "graph"])
@pytest.mark.parametrize("schedule", ["one_shot", {"type": "rounds", "rounds": 2}, "cubic"])
def test_the_model_is_smaller_and_loads_again(tmp_path: Path, apply: str, schedule: Any) -> None:
    """In its own modules or as a graph, at once, in rounds, and while the recovery goes on."""
    structure = {"type": "neurons", "apply": apply}
    report = prune(
        experiment(structure=structure, amount=0.5, schedule=schedule, recovery={"epochs": 2}), out=tmp_path / "run"
    )
    assert report.metrics["model.parameters"] < 0.6 * (64 * 32 + 32 + 32 * 16 + 16 + 16 * 10 + 10)
    assert report.metrics["pruning.units_removed"] == 0.5
    saved = checkpoints.load(tmp_path / "run" / "model.pt")
    assert isinstance(saved.model, Emitted) == (apply == "graph")
    assert report.model is not None
    inputs = torch.randn(5, 64)
    assert torch.allclose(saved.model(inputs), report.model.model.cpu().eval()(inputs), atol=1e-6)
    about = {"modelopt.json": ""}
    program = torch.export.load(tmp_path / "run" / "model.pt2", extra_files=about).module()
    assert json.loads(about["modelopt.json"])["label_names"] == [str(digit) for digit in range(10)]
    raw = 8 + 4 * torch.randn(5, 64, dtype=torch.float64)
    prepared = Preprocessing.from_plain(saved.preprocessing).apply(raw.numpy())
    assert torch.allclose(program(raw)[0], saved.model(torch.from_numpy(prepared)), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("of", "metric"), [("parameters", "model.parameters"), ("flops", "model.flops")])
def test_a_budget_is_met(of: str, metric: str) -> None:
    report = prune(experiment(budget={of: "50%"}, importance="l2"))
    costs = report.tables["costs"].records()
    name = {"parameters": "parameters", "flops": "multiply-accumulates"}[of]
    before = next(row["before"] for row in costs if row["what"] == name) * (2 if of == "flops" else 1)
    assert 0.46 * before <= report.metrics[metric] <= 0.5 * before


@pytest.mark.slow
def test_a_threshold_takes_what_is_inactive() -> None:
    report = prune(experiment(importance="activation_mean", threshold=1e9))
    assert [row[2] for row in report.tables["groups"].rows] == [1, 1], "one unit of each group stays"
    report = prune(experiment(importance="activation_mean", threshold=0.0))
    assert report.metrics["pruning.units_removed"] == 0.0


@pytest.mark.slow
def test_a_smaller_model_is_trained_and_pruned_on(tmp_path: Path) -> None:
    prune(experiment(amount=0.5), out=tmp_path / "first")
    model = {"type": "checkpoint", "path": str(tmp_path / "first" / "model.pt")}
    trained = train(load({**BASE, "model": model}), out=tmp_path / "trained")
    parameters = trained.metrics["model.parameters"]
    again = prune(
        load({**BASE, "model": model, "pruning": {"structure": "neurons", "amount": 0.5}}), out=tmp_path / "b"
    )
    assert again.metrics["model.parameters"] < parameters
    inputs = np.random.default_rng(0).random((3, 64), dtype=np.float32)
    for run, size in (("trained", parameters), ("b", again.metrics["model.parameters"])):
        saved = checkpoints.load(tmp_path / run / "model.pt")
        assert sum(each.numel() for each in saved.model.parameters()) == size
        assert saved.model(torch.from_numpy(inputs)).shape == (3, 10)
    sparse = prune(load({**BASE, "model": model, "pruning": {"amount": 0.5}}), out=tmp_path / "sparse")
    assert sparse.metrics["model.parameters"] == parameters
    assert checkpoints.load(tmp_path / "sparse" / "model.pt").model(torch.from_numpy(inputs)).shape == (3, 10)


def search(*objective: str, **sections: Any) -> Any:
    tuning = {
        "workflow": "prune",
        "objective": list(objective),
        "sampler": "random",
        "trials": 3,
        "executor": "serial",
        "space": {"pruning.amount": {"float": [0.1, 0.8]}, "pruning.importance": ["l2", "taylor", "random"]},
    }
    return load({**BASE, "pruning": {"structure": "neurons", "amount": 0.5}, "tuning": tuning, **sections})


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for each time that latency is measured; a few turns are enough."""
    seen: list[int] = []
    real = timing.latency

    def latency(*given: Any, **more: Any) -> Any:
        seen.append(1)
        return real(*given, **{**more, "runs": 3, "seconds": 0.0})

    monkeypatch.setattr(timing, "latency", latency)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "sections", "times"),
    [
        ("maximize validation.accuracy", {}, 1),
        ("minimize model.latency_ms", {}, 4),
        ("maximize validation.accuracy", {"gates": ["model.latency_ms_64 <= 1.0e+9"]}, 4),
    ],
)
def test_a_search_measures_latency_where_it_is_asked_for(
    objective: str, sections: dict[str, Any], times: int, timed: list[int]
) -> None:
    """In each trial then; else of the best one, at the end."""
    report = tune(search(objective, **sections))
    assert len(timed) == times
    assert report.best is not None
    assert ("model.latency_ms" in report.best["metrics"]) == (times > 1)
    assert report.metrics["model.latency_ms"] == report.best["metrics"].get(
        "model.latency_ms", report.metrics["model.latency_ms"]
    )
    assert report.metrics["model.parameters"] == report.best["metrics"]["model.parameters"]
    assert [row[0] for row in report.tables["costs"].rows][-1] == "ms for a batch of 64"


def test_a_graph_is_captured_once(timed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the states before and after pruning are judged."""
    captured: list[int] = []
    real = capture.capture
    monkeypatch.setattr(network, "capture", lambda *given: captured.append(1) or real(*given))  # type: ignore[func-returns-value]
    structure = {"type": "neurons", "apply": "graph"}
    report = prune(experiment(structure=structure, amount=0.5, schedule={"type": "rounds", "rounds": 2}))
    assert captured == [1]
    stages = {row[0]: row[1:] for row in report.tables["stages"].rows}
    assert stages["pruned"] == stages["final"], "there was no recovery"


@pytest.mark.slow
def test_a_search_over_amounts_and_importances() -> None:
    report = tune(search("maximize validation.accuracy", "minimize model.parameters"))
    states = [row["state"] for row in report.tables["trials"].records()]
    assert states == ["completed"] * 3


@pytest.mark.parametrize(
    ("pruning", "message"),
    [
        ({"budget": {"parameters": 5}}, "budget.parameters is 5, but .* are left when all that may go is gone"),
        ({"budget": {"flops": "0.1%"}, "keep_at_least": 0.5}, "budget.flops .* are left when all that may go is gone"),
        ({"amount": 0.5, "importance": "bn_scale"}, "go through no normalization"),
    ],
)
def test_what_cannot_be_is_said_before_the_training(
    pruning: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "advance", None)
    with pytest.raises(UsageError, match=message):
        prune(experiment(**pruning))


def test_what_does_not_go_together_is_said() -> None:
    for wrong, message in (
        ({"amount": 0.5, "importance": "wanda"}, "scores weights, no units"),
        ({"budget": {"nonzero": "10%"}}, "does not go with structure neurons"),
        ({"amount": 0.5, "compensation": "sparsegpt"}, "makes up for weights"),
        ({"amount": 0.5, "schedule": "lottery"}, "takes their places away"),
        ({"amount": 0.5, "structure": "weights", "importance": "hrank"}, "scores units, no weights"),
    ):
        with pytest.raises(ExperimentError, match=message):
            experiment(**wrong)
    with pytest.raises(UsageError, match="matches no group"):
        prune(experiment(amount=0.5, exclude=["nothing.*"]))
    with pytest.raises(UsageError, match="when all that may go is gone"):
        prune(experiment(budget={"parameters": 5}))
