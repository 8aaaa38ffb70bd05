"""LCBench by its ONNX surrogate: a task's curves, and the scale of its regret."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

TOTAL = 52
ORDER = ("batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout")
SPACE: dict[str, dict[str, Any]] = {
    "batch_size": {"int": [16, 512], "log": True},
    "learning_rate": {"float": [1.0e-4, 0.1], "log": True},
    "momentum": {"float": [0.1, 0.99]},
    "weight_decay": {"float": [1.0e-5, 0.1]},
    "num_layers": {"int": [1, 5]},
    "max_units": {"int": [64, 1024], "log": True},
    "max_dropout": {"float": [0.0, 1.0]},
}


def folder() -> Path:
    return Path(os.environ["LCBENCH"])


@cache
def _session() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(folder() / "model.onnx"), options)


@cache
def _codes() -> dict[str, int]:
    return {k: v for k, v in json.loads((folder() / "encoding.json").read_text())["OpenML_task_id"].items() if v}


def task_names() -> list[str]:
    """Those of the configuration space: the encoding holds one more, which the surrogate has not seen."""
    parameters = json.loads((folder() / "config_space.json").read_text())["hyperparameters"]
    choices = next(each["choices"] for each in parameters if each["name"] == "OpenML_task_id")
    return sorted(choices, key=int)


def predicted(task: str, settings: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """(N, 6) at settings (N, 7) in ORDER and epochs (N,)."""
    inputs = np.concatenate([epochs[:, None], settings], axis=1).astype(np.float32)
    code = np.full((len(inputs), 1), _codes()[task], np.int32)
    return np.asarray(_session().run(None, {"x_cat": code, "x_cont": inputs})[0])


class Task:
    """One of the 34."""

    def __init__(self, name: str) -> None:
        self.name = name

    def curve(self, params: Mapping[str, Any]) -> list[tuple[float, dict[str, float]]]:
        """A step an epoch, which costs 1; validation accuracy in [0, 1]."""
        setting = np.array([[float(params[key]) for key in ORDER]]).repeat(TOTAL, 0)
        curve = predicted(self.name, setting, np.arange(1, TOTAL + 1))
        return [(1.0, {"accuracy": float(value) / 100}) for value in curve[:, 1]]

    def regret(self, reached: Sequence[float]) -> np.ndarray:
        """Of the best accuracies so far."""
        best, median = _scale(self.name)
        return np.clip((best - np.asarray(reached)) / (best - median), 0.0, None)


@cache
def _scale(task: str) -> tuple[float, float]:
    """The best and the median final accuracy of 20,000 random settings."""
    rng = np.random.default_rng(0)
    columns = []
    for key in ORDER:
        spec = SPACE[key]
        low, high = spec.get("float") or spec["int"]
        u = rng.random(20_000)
        value = np.exp(np.log(low) + u * np.log(high / low)) if spec.get("log") else low + u * (high - low)
        columns.append(np.round(value) if "int" in spec else value)
    final = predicted(task, np.stack(columns, 1), np.full(20_000, TOTAL))[:, 1] / 100
    return float(final.max()), float(np.median(final))
