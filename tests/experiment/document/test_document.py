"""Dotted paths into a document: what they reach, what they change, and the nearest one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelopt_cli.experiment.document.document import Document, PathError, value_at
from modelopt_cli.experiment.document.marks import Finding, Mark, Marks, Source
from modelopt_cli.experiment.document.yaml_loader import parse
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.experiment.sections import LAYOUT

DIGITS: dict[str, Any] = {
    "data": {"type": "digits"},
    "model": "mlp",
    "training": {"optimizer": {"type": "sgd", "momentum": 0.9}, "schedule": "cosine"},
}


DOCUMENT = Document(DIGITS, Marks(Mark(Source("experiment"))), layout=LAYOUT)


def test_put_shares_what_is_not_on_the_path() -> None:
    changed = DOCUMENT.put("training.optimizer.lr", 1).values
    assert changed["training"]["optimizer"] == {"type": "sgd", "momentum": 0.9, "lr": 1}
    assert changed["data"] is DIGITS["data"]
    assert "lr" not in DIGITS["training"]["optimizer"]


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("training.epoch", "there is no 'epoch' in training"),
        ("training.optimizer.beta", r"there is no 'beta' in training.optimizer \(sgd\)"),
        ("nothing", "there is no 'nothing' in an experiment"),
        ("seed.x", "seed is the value 0"),
        ("model.hidden.-1", "so there is no '-1' in it"),
        ("training.class_weights.0", r"training.class_weights is not set \(null\)"),
        ("", "is no path"),
    ],
)
def test_paths_that_name_nothing(path: str, rule: str) -> None:
    with pytest.raises(PathError, match=rule):
        DOCUMENT.put(path, 1)


def test_every_path_can_be_set_and_found() -> None:
    experiment = Experiment.load(DIGITS)
    resolved = experiment.resolved()
    known = list(DOCUMENT.paths())
    assert {"training.optimizer.lr", "model.hidden.0", "tuning.space", "command.argv", "data.splits.seed"} <= set(known)
    for path in known:
        mark = Mark(Source("override"))
        changed = DOCUMENT.override(path, "new", mark, {})
        assert value_at(changed.values, path) == "new"
        keys = next(keys for keys, other in changed.marks.values.items() if other is mark)
        assert ".".join(map(str, keys)) == path
    for path in ("training.optimizer.lr", "model.hidden.0", "data.augment"):
        assert value_at(resolved, path) == experiment.value(path)
    for path in ("training.nothing", "model.hidden.9", "seed.x", "model.hidden.x"):
        with pytest.raises(KeyError):
            value_at(resolved, path)


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("training.batchsize", "training.batch_size"),
        ("optimizer.lr", "training.optimizer.lr"),
        ("lr", "training.optimizer.lr"),
        ("model.hiden.0", "model.hidden.0"),
        ("qqqqqqq", ""),
    ],
)
def test_nearest(path: str, near: str) -> None:
    assert DOCUMENT.nearest(path) == near


def test_an_override_replaces_marks_and_references_below_its_path() -> None:
    text = "training:\n  epochs: 5\n  optimizer: {type: sgd, lr: '${LR:-a}'}\n"
    read = replace(parse(Source("x.yaml", text)), layout=LAYOUT)
    assert list(read.references) == [("training", "optimizer", "lr")]
    changed = read.override("training.optimizer", "adam", Mark(Source("--set training.optimizer=adam")), {})
    assert changed.values == {"training": {"epochs": 5, "optimizer": "adam"}}
    assert not changed.references
    for part in ("optimizer.lr", "optimizer"):
        finding = Finding(("training", *part.split(".")), "wrong")
        assert str(changed.problem(finding)) == "--set training.optimizer=adam: wrong"
    assert str(changed.problem(Finding(("training", "epochs"), "wrong"))).startswith("x.yaml:2:11: wrong")
    assert str(read.problem(Finding(("training", "optimizer", "lr"), "wrong"))).startswith("x.yaml:3:30: wrong")


def test_a_finding_points_to_its_value_or_to_its_key() -> None:
    read = parse(Source("x.yaml", "a:\n  b: 10\n"))
    assert str(read.problem(Finding(("a", "b"), "wrong")).mark) == "x.yaml:2:6"
    assert str(read.problem(Finding(("a", "b"), "wrong", at_key=True)).mark) == "x.yaml:2:3"
    assert str(read.problem(Finding(("a", "c"), "wrong")).mark) == "x.yaml:1:1"
    assert read.unmarked().origin == "x.yaml"
    assert str(read.unmarked().problem(Finding(("a", "b"), "wrong"))) == "x.yaml: wrong"
