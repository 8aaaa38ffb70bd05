"""Values to predict keep their digits: large ones, tiny ones, in training, in reports, in predictions, as lessons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelopt_cli import api

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(200, 2))
SHAPE = INPUTS @ [50.0, 30.0] + RNG.normal(0, 1, 200)

MLP: dict[str, Any] = {
    "model": {"type": "mlp", "hidden": [16]},
    "training": {"epochs": 30, "optimizer": {"type": "adam", "lr": 0.02}},
}
RIDGE: dict[str, Any] = {"model": {"type": "sklearn", "estimator": "sklearn.linear_model.Ridge", "alpha": 0.01}}


def data(folder: Path, shift: float, scale: float) -> dict[str, Any]:
    path = folder / f"{shift}.{scale}.csv"
    pd.DataFrame({"a": INPUTS[:, 0], "b": INPUTS[:, 1], "t": SHAPE * scale + shift}).to_csv(path, index=False)
    return {"type": "csv", "path": str(path), "target": "t", "task": "regression"}


@pytest.mark.slow
@pytest.mark.parametrize("model", [MLP, RIDGE], ids=["mlp", "ridge"])
@pytest.mark.parametrize(("shift", "scale"), [(1.7e9, 1.0), (-3e12, 100.0), (0.0, 1e-30), (0.0, 1e-200), (0.0, 1e30)])
def test_a_shift_or_a_scale_changes_nothing(model: dict[str, Any], shift: float, scale: float, tmp_path: Path) -> None:
    plain = api.train(api.load({"data": data(tmp_path, 0.0, 1.0), **model}))
    folder = tmp_path / "run"
    moved = api.train(api.load({"data": data(tmp_path, shift, scale), **model}), out=folder)
    assert moved.metrics["test.r2"] == pytest.approx(plain.metrics["test.r2"], abs=1e-4)
    assert moved.metrics["test.mae"] == pytest.approx(plain.metrics["test.mae"] * scale, rel=0.02)
    again = api.evaluate(folder / "model.pt", "test")
    assert again.metrics["test.mae"] == pytest.approx(moved.metrics["test.mae"], rel=1e-5)
    source = Path(data(tmp_path, shift, scale)["path"])
    predicted = np.array(api.predict(folder / "model.pt", source).rows, float)[:, 0]
    assert np.abs((predicted - shift) / scale - SHAPE).mean() < 10
    assert len(np.unique(predicted)) > 190


@pytest.mark.slow
def test_an_estimator_teaches_large_values(tmp_path: Path) -> None:
    gaps = []
    for shift in (0.0, 1.7e9):
        section = data(tmp_path, shift, 1.0)
        folder = tmp_path / f"teacher{shift}"
        api.train(api.load({"data": section, **RIDGE}), out=folder)
        losses = [{"type": "mse", "weight": 1.0}]
        distillation = {"teacher": str(folder / "model.pt"), "losses": losses, "baseline": False}
        report = api.distill(api.load({"data": section, **MLP, "distillation": distillation}))
        gaps.append(report.metrics["test.r2"])
    assert gaps[1] == pytest.approx(gaps[0], abs=1e-3)
    assert gaps[0] > 0.99
