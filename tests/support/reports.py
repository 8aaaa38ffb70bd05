"""Reports of every kind, made without a run: what pages and charts are tried on. Names hold what must stay text."""

from __future__ import annotations

import math
import random
from typing import Any

from modelopt_cli.results.report import GateResult, Report, Table

HOSTILE = "</script><img src=x onerror=\"window.hacked=1\"><b>bold</b> & 'quoted' \u2028 {{7*7}}"
"""A name, label or reason as somebody's file may hold it."""


def search(trials: int = 40, steps: int = 8, *, goals: int = 1) -> Report:
    """A search in which trials were stopped, paused and failed; with `goals` 2, one with a front."""
    rng = random.Random(0)
    objectives = ["maximize validation.accuracy", "minimize model.parameters"][:goals]
    rows: list[dict[str, Any]] = []
    curves: list[list[Any]] = []
    timeline: list[list[Any]] = []
    clock = 0.0
    for number in range(trials):
        lr, kind = 10 ** rng.uniform(-4, 0), rng.choice(["sgd", "adamw"])
        hidden, name = rng.randrange(4, 128), rng.choice(["plain", HOSTILE])
        value = 0.97 - 0.08 * abs(math.log10(lr) + 1.5) - 2 / (hidden + 8) + rng.gauss(0, 0.01)
        state = "failed" if number % 9 == 4 else "stopped" if number % 4 == 3 else "completed"
        state = "paused" if number == trials - 1 else state
        lasted = 1 if state == "failed" else steps // 2 if state == "stopped" else steps
        rows.append(
            {
                "trial": number,
                "state": state,
                "origin": "file" if number == 0 else "sampler",
                "validation.accuracy": None if state == "failed" else value,
                "model.parameters": None if state == "failed" else float(hidden * 75),
                "training.optimizer.lr": lr,
                "model.hidden.0": hidden,
                "training.optimizer": f'{{"type": "{kind}"}}',
                "training.optimizer.momentum": rng.random() if kind == "sgd" else None,
                "data.note": name,
                "seed": number,
                "seconds": 0.1 * lasted,
                "steps": lasted,
                "failure": "nan" if state == "failed" else None,
                "reason": f"{HOSTILE} at step {number}" if state == "failed" else "",
            }
        )
        for step in range(1, lasted + 1):
            curves.append([number, step, value - 0.5 / step, float(hidden * 75)][: 3 + goals - 1])
        timeline.append([number, number % 2 + 1, clock, clock + 0.1 * lasted, state])
        clock += 0.05 * lasted
    complete = [row for row in rows if row["state"] == "completed"]
    best = max(complete, key=lambda row: row["validation.accuracy"])
    paths = [
        "training.optimizer.lr",
        "model.hidden.0",
        "training.optimizer",
        "training.optimizer.momentum",
        "data.note",
    ]
    metrics = {"validation.accuracy": best["validation.accuracy"], "test.accuracy": 0.93, "model.parameters": 900.0}
    tables = {
        "trials": Table.from_records(rows),
        "importance": Table(
            columns=["path", "importance", "deviation", "trials", "when", "metric"],
            rows=[[path, 0.6 / 2**i, 0.05, trials, "", "validation.accuracy"] for i, path in enumerate(paths)],
        ),
        "effects": Table(
            columns=["path", "value", "mean", "deviation", "when", "metric"],
            rows=[
                *([paths[0], 10**e, 0.9 - 0.05 * abs(e + 1.5), 0.02, "", "validation.accuracy"] for e in range(-4, 1)),
                *([paths[4], name, 0.8, 0.03, "", "validation.accuracy"] for name in ("plain", HOSTILE)),
            ],
        ),
        "effects_pairs": Table(
            columns=["path_a", "value_a", "path_b", "value_b", "mean", "metric"],
            rows=[
                [paths[0], 10**e, paths[4], name, 0.8 + 0.01 * e, "validation.accuracy"]
                for e in range(-4, 1)
                for name in ("plain", HOSTILE)
            ],
        ),
    }
    details: dict[str, Any] = {
        "objective": objectives,
        "workflow": "train",
        "ended": "completed",
        "why": "",
        "front": [row["trial"] for row in complete[:4]],
        "space": [{"path": path, "kind": "float", "range": "0.0001 to 1, log", "when": ""} for path in paths],
        "baseline": {
            "trial": 0,
            "state": "completed",
            "metrics": {"validation.accuracy": rows[0]["validation.accuracy"]},
        },
    }
    if goals == 2:
        details |= {"hypervolume": 12.5, "reference": {"validation.accuracy": 0.5, "model.parameters": 9000.0}}
        tables["hypervolume"] = Table(columns=["trial", "hypervolume"], rows=[[n, float(n)] for n in range(trials)])
    report = Report(
        kind="search",
        workflow="tune",
        name="search",
        started="2026-11-30T14:00:00+00:00",
        seconds=12.0,
        metrics=metrics,
        best={"number": best["trial"], "params": {p: best[p] for p in paths}, "metrics": metrics, "seed": 1},
        tables=tables | _judged() | _data(),
        gates=[
            GateResult(condition="test.accuracy >= 0.9", met=True, value=0.93, margin=0.03),
            GateResult(condition="test.f1 >= 0.99", met=False, value=None, margin=None),
        ],
        plan={"sampler": "tpe", "estimated_seconds": 10.0, "actual_seconds": 12.0},
        details=details,
        warnings=[HOSTILE, "a second one"],
    )
    names = ["trial", "step", "validation.accuracy", "model.parameters"]
    return report.with_beside(
        {
            "curves": Table(columns=names[: 2 + goals], rows=curves),
            "timeline": Table(columns=["trial", "lane", "start", "end", "state"], rows=timeline),
        }
    )


def population() -> Report:
    """A search by population-based training: trials that went on from others' states."""
    base = search(12)
    rows = base.records("trials")
    for row in rows:
        row["parent"], row["born"] = (row["trial"] - 4, 3) if row["trial"] >= 4 else (None, 0)
    tables = {**base.tables, "trials": Table.from_records(rows)}
    return base.model_copy(update={"tables": tables})


def training(*, regression: bool = False) -> Report:
    """One model trained: a classifier, or a regression of two targets."""
    metrics = {"train.epochs": 12.0, "model.parameters": 17_226.0, "model.size_bytes": 68_904.0}
    measure = "rmse" if regression else "accuracy"
    metrics |= {f"{split}.{measure}": value for split, value in (("train", 0.99), ("validation", 0.96), ("test", 0.95))}
    curve = Table(
        columns=["epoch", "train.loss", "validation.loss", "validation.accuracy"],
        rows=[[n, 2 / n, 2.2 / n, 1 - 1 / (n + 1)] for n in range(1, 13)],
    )
    predictions = [
        ["test", math.sin(n), math.sin(n) + 0.2 * math.cos(7 * n), target]
        for n in range(60)
        for target in ("y", HOSTILE)
    ]
    answers = {
        "predictions": Table(columns=["split", "true", "predicted", "target"], rows=predictions)
    } if regression else _judged()  # fmt: skip
    return Report(
        kind="training",
        workflow="train",
        name="training",
        started="2026-11-30T14:00:00+00:00",
        seconds=3.0,
        metrics=metrics,
        tables={"curve": curve, **answers, **_data()},
        details={"data": {"source": "digits", "samples": 1797, "inputs": [64], "task": "classes"}},
    )


def pruning(*, units: bool = False) -> Report:
    """Weights set to zero, or units taken out."""
    stages = Table(
        columns=["stage", "test.accuracy", "validation.accuracy", "test.loss"],
        rows=[["before", 0.95, 0.96, 0.2], ["pruned", 0.8, 0.82, 0.6], ["final", 0.94, 0.95, 0.22]],
    )
    if units:
        layers = Table(
            columns=["tensor", "shape before", "shape", "weights", "share removed"],
            rows=[["a.weight", "128x64", "96x64", 6144, 0.25], [HOSTILE, "64x128", "64x96", 6144, 0.25]],
        )
    else:
        layers = Table(
            columns=["tensor", "shape", "weights", "zero before", "zeroed", "sparsity", "spared"],
            rows=[["a.weight", "128x64", 8192, 0, 7000, 7000 / 8192, None], [HOSTILE, "64", 64, 0, 0, 0.0, "too few"]],
        )
    groups = Table(
        columns=["group", "units", "left", "share removed", "tensors", "spared"],
        rows=[["a", 128, 96, 0.25, "a.weight", None], [HOSTILE, 10, 10, 0.0, "b.weight", "an output of the model"]],
    )
    sensitivity = Table(
        columns=["group", "share removed", "divergence"],
        rows=[[name, n / 10, n * n / 100] for name in ("a", HOSTILE) for n in range(10)],
    )
    costs = Table(
        columns=["what", "before", "after", "times less"],
        rows=[["parameters", 17_226.0, 12_135.0, 1.42], ["bytes of tensors", 68_904.0, 48_540.0, 1.42]],
    )
    curve = Table(columns=["step", "train.loss", "validation.loss"], rows=[[n, 1 / n, 1.1 / n] for n in range(1, 9)])
    return Report(
        kind="units" if units else "pruning",
        workflow="prune",
        name="pruning",
        metrics={"test.accuracy": 0.94, "validation.accuracy": 0.95, "model.sparsity": 0.85},
        tables={
            "stages": stages,
            "layers": layers,
            "curve": curve,
            "sensitivity": sensitivity,
            **({"groups": groups, "costs": costs} if units else {}),
            **_judged(),
        },
        details={"asked": {"amount": 0.9}, "reached": {}, "spared": {}},
    )


def distillation() -> Report:
    """Teacher, student alone and student, over seeds."""
    columns = ["learner", "kept", "test.accuracy", "test.accuracy_std", "test.loss"]
    rows = [
        ["teacher", True, 0.97, 0.001, 0.1],
        ["student alone", True, 0.93, 0.004, 0.3],
        [HOSTILE, True, 0.95, 0.003, 0.2],
    ]
    curve = [[name, n, 1 / n, 1.1 / n] for name in ("teacher", "student") for n in range(1, 9)]
    return Report(
        kind="distillation",
        workflow="distill",
        name="distillation",
        metrics={"test.accuracy": 0.95, "test.gap_closed": 0.5, "test.accuracy_std": 0.003},
        tables={
            "learners": Table(columns=columns, rows=[list(row) for row in rows]),
            "costs": Table(
                columns=["what", "teacher", "student", "times less"], rows=[["parameters", 85_002.0, 610.0, 139.3]]
            ),
            "curve": Table(
                columns=["learner", "epoch", "train.loss", "validation.loss"], rows=[list(row) for row in curve]
            ),
        },
        details={"seeds": [0, 1, 2]},
    )


def comparison() -> Report:
    """Two runs against a first one."""
    columns = ["metric", "run", "than", "difference", "low", "high", "verdict", "how"]
    rows: list[list[Any]] = [
        ["test.accuracy", "B", "A", 0.02, 0.01, 0.03, "better", "Welch"],
        ["test.accuracy", "C", "A", -0.01, -0.03, 0.01, "same", "Welch"],
        ["test.loss", "B", "A", -0.1, None, None, "not known", "one seed each"],
    ]
    return Report(
        kind="comparison",
        workflow="compare",
        name="a and 2 others",
        tables={
            "differences": Table(columns=columns, rows=rows),
            "metrics": Table(
                columns=["metric", "better", "A", "B", "C"], rows=[["test.accuracy", "higher", 0.9, 0.92, 0.89]]
            ),
        },
        details={
            "runs": {"A": "a/1", "B": HOSTILE, "C": "c/1"},
            "main": ["test.accuracy"],
            "summary": ["test.accuracy: B is better than A"],
        },
    )


REPORTS = {
    "search": lambda: search(),
    "front": lambda: search(goals=2),
    "population": population,
    "training": lambda: training(),
    "regression": lambda: training(regression=True),
    "pruning": lambda: pruning(),
    "units": lambda: pruning(units=True),
    "distillation": distillation,
    "comparison": comparison,
}
"""Name -> what makes the report."""


def _judged() -> dict[str, Table]:
    labels = ["0", "1", HOSTILE]
    confusion = [["test", a, b, 40 if a == b else 3] for a in labels for b in labels]
    bins = [["test", i / 15, (i + 1) / 15, 5 + i, (i + 0.5) / 15, (i + 0.2) / 15] for i in range(15)]
    return {
        "confusion": Table(columns=["split", "true", "predicted", "count"], rows=[list(row) for row in confusion]),
        "calibration": Table(
            columns=["split", "low", "high", "count", "confidence", "accuracy"], rows=[list(row) for row in bins]
        ),
    }


def _data() -> dict[str, Table]:
    splits: list[list[Any]] = [["train", 600], ["validation", 200], ["test", 200]]
    return {
        "splits": Table(columns=["split", "samples"], rows=splits),
        "classes": Table(
            columns=["split", "class", "samples"],
            rows=[[split, name, size // 3] for split, size in splits for name in ("0", "1", HOSTILE)],
        ),
        "missing": Table(
            columns=["column", "kind", "missing", "of"], rows=[["age", "number", 20, 600], [HOSTILE, "text", 5, 600]]
        ),
    }
