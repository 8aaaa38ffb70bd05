"""Latencies side by side: ratios that are known, what cannot be run, one measurement at a time, and oracles."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelopt_cli.api import load
from modelopt_cli.core.errors import ExperimentError, UsageError
from modelopt_cli.experiment.evaluation import LatencySettings
from modelopt_cli.models import latency as timing
from modelopt_cli.workflows import train
from modelopt_cli.workflows.shared import latencies
from modelopt_cli.workflows.shared.context import Context
from modelopt_cli.workflows.shared.latencies import TimingOptions, measured

BRIEF = LatencySettings(batch_sizes=(1, 8), seconds=0.01)


class Ticking(nn.Module):
    """Takes so many milliseconds of a fake clock for each sample, and notes how many threads torch has."""

    def __init__(self, ticks: float, clock: list[float], threads: set[int] | None = None) -> None:
        super().__init__()
        self.ticks, self.clock, self.seen = ticks, clock, threads if threads is not None else set[int]()

    def forward(self, inputs: Tensor) -> Tensor:
        self.clock[0] += self.ticks * len(inputs) / 1000.0
        self.seen.add(torch.get_num_threads())
        return inputs


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [0.0]
    monkeypatch.setattr(timing, "perf_counter", lambda: time[0])
    return time


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 3)).eval()


def test_medians_ratios_threads_and_the_table(clock: list[float]) -> None:
    threads, before = set[int](), torch.get_num_threads()
    models: dict[str, nn.Module | bytes] = {"slow": Ticking(6, clock, threads), "fast": Ticking(2, clock, threads)}
    settings = LatencySettings(batch_sizes=(4, 1), threads=before + 1, seconds=1.0)
    result = measured(models, torch.zeros(2, 3), settings)
    assert (threads, torch.get_num_threads()) == ({before + 1}, before)
    assert result.metrics("slow") == pytest.approx({"model.latency_ms": 24.0, "model.latency_ms_1": 6.0})
    assert result.relative("fast") == pytest.approx(
        {"model.latency_ms_ratio": 1 / 3, "model.latency_ms_1_ratio": 1 / 3}
    )
    rows = result.table().records()
    assert [(row["batch size"], row["model"], row["threads"], row["runtime"]) for row in rows] == [
        (size, name, before + 1, "eager") for size in (4, 1) for name in ("slow", "fast")
    ]
    np.testing.assert_allclose([row["relative to baseline"] for row in rows], [1, 1 / 3, 1, 1 / 3])
    np.testing.assert_allclose([row["median ms"] for row in rows], [24, 8, 6, 2])
    np.testing.assert_allclose([row["samples per second"] for row in rows[:1]], [1000 / 6])
    assert f"eager on cpu, {before + 1} threads; medians of" in result.how


def test_what_cannot_be_run_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelopt_cli.models import compiling

    def compiled_for(*_: Any) -> Any:
        raise UsageError("torch.compile took longer than 120 s")

    monkeypatch.setattr(compiling, "compiled_for", compiled_for)
    result = measured({"model": module()}, torch.randn(8, 6), BRIEF, ("eager", "compiled"))
    assert [way for _, way in result.measured] == ["eager"]
    assert "latency of model by torch.compile was not measured: torch.compile took longer than 120 s" in result.warnings
    nothing = measured({"model": module()}, torch.randn(8, 6), BRIEF, ("compiled",))
    assert (nothing.metrics("model"), nothing.table().rows, nothing.told) == ({}, [], {})


def test_one_measures_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: list[float]) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    held: list[bool] = []

    class Looking(Ticking):
        def forward(self, inputs: Tensor) -> Tensor:
            (path,) = tmp_path.iterdir()
            handle = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held.append(False)
            except OSError:
                held.append(True)
            finally:
                os.close(handle)
            return super().forward(inputs)

    result = measured({"model": Looking(1, clock)}, torch.zeros(1, 3), BRIEF)
    assert set(held) == {True}
    assert not any("another run" in text for text in result.warnings)
    (path,) = tmp_path.iterdir()
    monkeypatch.setattr(latencies, "_PATIENCE", -1.0)
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        result = measured({"model": Ticking(1, clock)}, torch.zeros(1, 3), BRIEF)
    assert any("while another run of modelopt measured" in text for text in result.warnings)
    assert result.metrics("model"), "it is measured all the same"


@pytest.mark.slow
def test_onnx_runtime_answers_what_the_module_answers_and_is_timed_beside_it() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model, inputs = module(), torch.randn(8, 6)
    content = latencies._as_onnx(model, inputs, (1, 8))  # what is timed, which nobody else sees
    for size in (1, 8):
        with torch.inference_mode():
            answers: Any = timing.onnxruntime(content).ready(inputs[:size], 1)()
            torch.testing.assert_close(torch.from_numpy(answers[0]), model(inputs[:size]))
    result = measured({"model": model, "file": content}, inputs, BRIEF, ("eager", "onnxruntime"))
    assert list(result.measured) == [("model", "eager"), ("file", "onnxruntime"), ("model", "onnxruntime")]
    assert all(row["median ms"] > 0 for row in result.table().records())
    assert result.metrics("model") == {
        name: one.median for name, one in zip(BRIEF.metrics, result.of("model"), strict=True)
    }


@pytest.mark.slow
def test_what_cannot_be_exported_is_timed_eagerly_where_the_file_leaves_it_open() -> None:
    class Branching(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs if float(inputs.sum()) > 0 else -inputs

    models: dict[str, nn.Module | bytes] = {"first": module(), "second": Branching()}
    result = measured(models, torch.randn(8, 6), BRIEF, auto="onnxruntime")
    assert list(result.measured) == [("first", "eager"), ("second", "eager")]
    assert any("of second by ONNX Runtime was not measured" in text for text in result.warnings)
    both = measured(models, torch.randn(8, 6), BRIEF, ("onnxruntime", "eager"))
    assert both.runtime == "eager"
    first = both.measured["first", "eager"]
    assert both.metrics("first") == {name: one.median for name, one in zip(BRIEF.metrics, first, strict=True)}
    asked = measured(models, torch.randn(8, 6), BRIEF.model_copy(update={"runtime": "onnxruntime"}))
    assert list(asked.measured) == [("first", "onnxruntime")]


def test_options_over_the_file() -> None:
    given = LatencySettings(threads=2, batch_sizes=(4,), seconds=0.5)
    assert TimingOptions().over(given, 9.0) == (given, ())
    settings, runtimes = TimingOptions(("eager", "compiled", "eager"), batch_sizes=(1, 2)).over(None, 9.0)
    assert (settings.threads, settings.batch_sizes, settings.seconds, runtimes) == (
        1,
        (1, 2),
        9.0,
        ("eager", "compiled"),
    )
    with pytest.raises(UsageError, match=r"--batch-size: batch_sizes has 2 more than once"):
        TimingOptions(batch_sizes=(2, 2)).over(None, 1.0)
    with pytest.raises(UsageError, match=r"--threads is 0, but must be at least 1"):
        TimingOptions(threads=0).over(None, 1.0)
    with pytest.raises(
        UsageError, match=r"--runtime is 'onxruntime', but must be one of: eager, compiled, onnxruntime"
    ):
        TimingOptions.named(["onxruntime"], None, ())


DOCUMENT: dict[str, Any] = {
    "name": "timed",
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [8]},
    "training": {"epochs": 1},
    "evaluation": {"latency": {"batch_sizes": [2, 16], "seconds": 0.01}},
}


def test_a_training_measures_it_where_the_file_asks() -> None:
    report = train.run(load(DOCUMENT), Context())
    assert {name for name in report.metrics if "latency" in name} == {"model.latency_ms", "model.latency_ms_16"}
    rows = report.tables["latency"].records()
    assert [row["batch size"] for row in rows] == [2, 16]
    assert "eager on" in report.details["latency"]
    plain = train.run(load({**DOCUMENT, "evaluation": {}}), Context())
    assert not any("latency" in name for name in (*plain.metrics, *plain.tables, *plain.details))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"evaluation": {"latency": {"batch_sizes": []}}}, "batch_sizes is empty; name at least one"),
        ({"evaluation": {"latency": {"batch_sizes": [1, 1]}}}, "batch_sizes has 1 more than once"),
        ({"evaluation": {"latency": {"runtime": "onnx"}}}, "onnxruntime"),
        ({"evaluation": {"latency": {"threads": 0}}}, "threads"),
        ({"evaluation": {"latency": {"seconds": 0}}}, "seconds"),
        ({"evaluation": {"cv": 3, "latency": {}}}, "latency is the time of one model, but cv trains one for each fold"),
        (
            {"model": {"type": "sklearn", "estimator": "sklearn.svm.SVC"}, "training": None},
            "latency is that of a torch model's forward pass, but the model is sklearn",
        ),
    ],
)
def test_what_cannot_be_asked_for(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        load({**DOCUMENT, **sections})
