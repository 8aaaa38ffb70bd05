"""Schedules that are longer than their training say so; other ones say nothing."""

from __future__ import annotations

from typing import Any

import pytest

from modelopt_cli import load, train
from modelopt_cli.core.strategy import Named


def remarks(schedule: dict[str, Any], epochs: int) -> list[str]:
    return Named("schedules").parse(schedule).remarks(epochs)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("schedule", "epochs", "words"),
    [
        ({"type": "warmup", "epochs": 50}, 5, "rises for 50 epochs, but training lasts 5"),
        ({"type": "warmup", "epochs": 5}, 5, "rises for 5 epochs"),
        ({"type": "multi_step", "milestones": [3, 10, 20]}, 5, "never comes to: 10, 20"),
        ({"type": "warmup", "epochs": 1, "then": {"type": "multi_step", "milestones": [9]}}, 5, "never comes to: 9"),
    ],
)
def test_what_never_comes_is_told(schedule: dict[str, Any], epochs: int, words: str) -> None:
    [text] = remarks(schedule, epochs)
    assert words in text


@pytest.mark.parametrize(
    "schedule", [{"type": "cosine"}, {"type": "warmup"}, {"type": "multi_step", "milestones": [4]}]
)
def test_what_fits_is_not(schedule: dict[str, Any]) -> None:
    assert remarks(schedule, 5) == []


def test_it_stands_in_the_report() -> None:
    schedule = {"type": "multi_step", "milestones": [8]}
    training = {"epochs": 1, "schedule": schedule}
    report = train(load({"data": {"type": "iris"}, "model": {"type": "mlp", "hidden": [4]}, "training": training}))
    assert report.warnings == [
        "training.schedule multi_step has milestones that a training of 1 epochs never comes to: 8"
    ]
