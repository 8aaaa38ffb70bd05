"""Overrides: how they are read, in which order they are applied, and what is said of wrong ones."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.experiment.experiment import Experiment
from tests.support.bad_experiments import GOOD, outcome, refusal

DIGITS: dict[str, Any] = {
    "data": {"type": "digits"},
    "model": "mlp",
    "training": {"optimizer": {"type": "sgd", "momentum": 0.9}, "schedule": "cosine"},
}


def test_overrides_are_read_as_yaml() -> None:
    experiment = Experiment.load(
        DIGITS,
        [
            "training.optimizer.lr=1e-3",
            "model.hidden=[64, 32]",
            "training.schedule={type: warmup, then: cosine}",
            "training.schedule.epochs=2.5",
            "training.monitor=validation.loss",
            "training.patience=",
            "gates=['test.accuracy >= 0.9']",
            "name='1'",
        ],
    )
    training = experiment.resolved()["training"]
    assert training["optimizer"]["lr"] == 0.001
    assert experiment.resolved()["model"]["hidden"] == [64, 32]
    assert training["schedule"]["epochs"] == 2.5
    assert training["schedule"]["then"]["type"] == "cosine"
    assert (training["monitor"], training["patience"]) == ("validation.loss", None)
    assert experiment.gates == ("test.accuracy >= 0.9",)
    assert experiment.name == "1"


def test_overrides_go_from_the_shortest_path_to_the_longest() -> None:
    overrides = ["training.optimizer.lr=0.5", "training.optimizer=adamw", "model.hidden=[1]", "model=cnn", "model=mlp"]
    resolved = Experiment.load(DIGITS, overrides).resolved()
    assert (resolved["training"]["optimizer"]["type"], resolved["training"]["optimizer"]["lr"]) == ("adamw", 0.5)
    assert resolved["model"]["hidden"] == [1]


def test_overrides_create_what_is_missing() -> None:
    overrides = ["training.optimizer.lr=0.5", "training.schedule.end=0.1", "evaluation.cv=3", "data.splits.test=0.3"]
    resolved = Experiment.load({"data": "digits", "training": {"schedule": "cosine"}}, overrides).resolved()
    assert resolved["training"]["optimizer"] | {"type": "adam", "lr": 0.5} == resolved["training"]["optimizer"]
    assert resolved["training"]["schedule"] == {"type": "cosine", "end": 0.1}
    assert resolved["evaluation"]["cv"] == 3
    assert resolved["data"]["splits"]["test"] == 0.3
    assert Experiment.load({}, ["model.type=mlp", "model.hidden=[3]"]).resolved()["model"]["hidden"] == [3]
    assert Experiment.load({}, ["model.hidden=[3]", "model.type=mlp"]).resolved()["model"]["hidden"] == [3]


def test_overrides_of_the_space_take_paths_with_dots() -> None:
    tuning = {"objective": "minimize validation.loss", "space": {"training.epochs": [1, 2]}}
    overrides = ["tuning.space.training.batch_size=[1, 2]", "tuning.space.training.epochs={int: [1, 9]}"]
    overrides.append("tuning.space.training.epochs.log=true")
    space = Experiment.load({**DIGITS, "tuning": tuning}, overrides).require_tuning().space
    assert space == {"training.epochs": {"int": [1, 9], "log": True}, "training.batch_size": [1, 2]}


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        (["training.epochs=x"], "--set training.epochs=x: training.epochs: expected a whole number, got the text 'x'"),
        (
            ["training.epoch=5"],
            "--set training.epoch=5: there is no 'epoch' in training\ndid you mean 'training.epochs'?",
        ),
        (["epochs=5"], "did you mean 'training.epochs'?"),
        (["model.hidden.7=5"], "--set model.hidden.7=5: model.hidden has 2 items (0 to 1)"),
        (["training.epochs.x=5"], "training.epochs is the value 30, so nothing lies below it"),
        (["model.hidden=[1"], "--set model.hidden=[1: this is not YAML"),
        (["model={a: 1, a: 2}"], "the key 'a' stands twice"),
        (["training.optimizer.type=sdg"], "--set training.optimizer.type=sdg: training.optimizer: unknown optimizer"),
        (["training.optimizer.type=adamw"], "x.yaml:12:36: unknown key 'momentum' in training.optimizer (adamw)"),
        (["training.batch_size"], "write PATH=VALUE, e.g. --set training.epochs=5"),
        (["=5"], "write PATH=VALUE"),
        (["a..b=5"], "'a..b' is no path"),
        (["tuning.space.training.epochs=[0, 5]"], "--set tuning.space.training.epochs=[0, 5]: training.epochs must be"),
        (["evaluation.repeats=2"], "--set evaluation.repeats=2: evaluation: repeats is 2"),
        (["seed=\udc80"], "this is not YAML"),
    ],
)
def test_overrides_are_told_by_their_text(tmp_path: Path, overrides: list[str], rule: str) -> None:
    assert rule in refusal(tmp_path, overrides=tuple(overrides))


def test_problems_in_file_and_overrides_together(tmp_path: Path) -> None:
    message = refusal(tmp_path, ("epochs: 30", "epochs: x"), overrides=("seed=x", "training.batch_size=0"))
    assert message.count("x.yaml:") == 1
    assert message.count("--set") == 2


@pytest.mark.slow
@settings(deadline=None)
@given(st.text())
def test_any_override_is_taken_or_refused_in_our_words(text: str) -> None:
    for setting in (text, f"training.{text}", f"training.epochs={text}", f"{text}=1"):
        _, error = outcome(partial(Experiment.load, yaml.safe_load(GOOD), [setting]))
        assert "Input should" not in error
