"""A search by latency: its front is measured again at the end, in turns, and the report says how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelopt_cli import load, tune
from modelopt_cli.experiment.evaluation import LatencySettings
from modelopt_cli.models import latency as timing
from modelopt_cli.models.latency import Latency
from modelopt_cli.results.report import Table
from modelopt_cli.workflows.search.latencies import asked_for, with_latencies
from modelopt_cli.workflows.shared.latencies import Latencies


def test_what_is_asked_for() -> None:
    wanted = ["validation.accuracy", "model.latency_ms_ratio", "model.latency_ms", "model.latency_ms_64", "model.macs"]
    assert asked_for(wanted) == ["model.latency_ms", "model.latency_ms_64"]


def test_columns_of_the_front() -> None:
    front = Table(columns=["trial", "model.latency_ms_8"], rows=[[4, 9.0], [7, 9.5]])
    settings = LatencySettings(batch_sizes=(1, 8))
    of_seven = [Latency("trial 7", size, 1, "cpu", (float(size), 2.0 * size, 3.0 * size)) for size in (1, 8)]
    table = with_latencies(
        front, Latencies("trial 4", settings, {("trial 7", "eager"): of_seven}), ["model.latency_ms_8"]
    )
    assert table.columns == [*front.columns, *(f"model.latency_ms_8{ending}" for ending in ("_again", "_low", "_high"))]
    assert table.rows == [[4, 9.0, None, None, None], [7, 9.5, 16.0, 12.0, 20.0]], "who was left out has no figures"


@pytest.mark.slow
def test_the_front_is_measured_again_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[list[str]] = []
    real = timing.latency

    def latency(contenders: Any, *given: Any, **more: Any) -> Any:
        together.append(list(contenders))
        return real(contenders, *given, **more)

    monkeypatch.setattr(timing, "latency", latency)
    document = {
        "name": "front",
        "data": {"type": "iris", "splits": {"validation": 0.3, "test": 0.2, "seed": 0}},
        "model": {"type": "mlp", "hidden": [32]},
        "training": {"epochs": 3},
        "evaluation": {"latency": {"batch_sizes": [2, 8], "seconds": 0.01}},
        "tuning": {
            "objective": ["maximize validation.accuracy", "minimize model.parameters"],
            "constraints": ["model.latency_ms_8 <= 1.0e+9"],
            "sampler": "grid",
            "executor": "serial",
            "trials": 3,
            "space": {"model.hidden.0": [1, 8, 64]},
        },
    }
    report = tune(load(document), out=tmp_path / "run")
    front = [f"trial {number}" for number in report.details["front"]]
    assert len(front) > 1
    assert together[:3] == [["model"]] * 3, "each trial by itself"
    assert sorted(together[3]) == sorted(front)
    rows = report.tables["front"].records()
    for row in rows:
        low, again, high = (row[f"model.latency_ms_8{ending}"] for ending in ("_low", "_again", "_high"))
        assert 0 < low <= again <= high
    header = (tmp_path / "run/front.csv").read_text().splitlines()[0]
    assert header.split(",") == report.tables["front"].columns
    assert f"the {len(front)} models of the front again" in report.details["latency"]
