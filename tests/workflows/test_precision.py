"""Trained in bfloat16, reported as the saved model is: evaluations are in float32."""

from __future__ import annotations

from pathlib import Path

from modelopt_cli import evaluate, load, train


def test_the_reports_figures_are_those_of_the_saved_model(tmp_path: Path) -> None:
    experiment = load(
        {
            "data": {"type": "digits"},
            "model": {"type": "mlp", "hidden": [16]},
            "training": {"epochs": 2, "precision": "bfloat16"},
        }
    )
    report = train(experiment, tmp_path / "run")
    for split in ("validation", "test"):
        again = evaluate(tmp_path / "run/model.pt", split=split).metrics
        shared = set(again) & set(report.metrics)
        assert f"{split}.roc_auc" in shared
        assert {name: again[name] for name in shared} == {name: report.metrics[name] for name in shared}
