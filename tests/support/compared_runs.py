"""Run folders as modelopt writes them, made without a run: for tests of what reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from modelopt_cli.results.report import Report, Table

EXPERIMENT: dict[str, Any] = {
    "version": 1,
    "name": "base",
    "seed": 0,
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}, "standardize": None},
    "model": {"type": "mlp", "hidden": [8]},
    "training": {"epochs": 3, "optimizer": {"type": "adam", "lr": 0.01}},
    "gates": [],
}


def run_folder(
    root: Path,
    name: str,
    metrics: Mapping[str, float],
    *,
    seeds: Mapping[str, Sequence[float]] | None = None,
    samples: Mapping[str, int] | None = None,
    experiment: Mapping[str, Any] | None = EXPERIMENT,
    **content: Any,
) -> Path:
    """`root/name/1`. `seeds`: metric -> its value for each seed, whose mean the metric is. `samples`: of each split."""
    path = root / name / "1"
    path.mkdir(parents=True)
    metrics, tables, details = dict(metrics), dict(content.pop("tables", {})), dict(content.pop("details", {}))
    if seeds is not None:
        n = len(next(iter(seeds.values())))
        metrics |= {metric: sum(values) / n for metric, values in seeds.items()}
        rows: list[list[Any]] = [[seed, *(values[seed] for values in seeds.values())] for seed in range(n)]
        tables["seeds"] = Table(columns=["seed", *seeds], rows=[*rows, ["mean", *(0.0 for _ in seeds)]])
        details["seeds"] = list(range(n))
    if samples is not None:
        tables["splits"] = Table(columns=["split", "samples"], rows=[list(row) for row in samples.items()])
    given = {"kind": "training", "workflow": "train", "seconds": 2.0, **content}
    report = Report.model_validate(
        {"name": name, "metrics": metrics, "tables": {k: v.model_dump() for k, v in tables.items()}, "details": details}
        | given
    )
    (path / "report.json").write_text(json.dumps(json.loads(report.to_json())))
    if experiment is not None:
        (path / "experiment.yaml").write_text(yaml.safe_dump({**experiment, "name": name}))
    return path
