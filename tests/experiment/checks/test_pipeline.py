"""The stages of a compression: which there are without `pipeline:`, and which orders make no sense."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from modelopt_cli.core.errors import ExperimentError
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.experiment.pipeline import stages_of

BASE: dict[str, Any] = {
    "data": "digits",
    "model": {"type": "mlp", "hidden": [16]},
    "training": {"epochs": 2},
    "pruning": {"structure": "neurons", "importance": "l2", "amount": 0.5, "recovery": {"epochs": 1}},
}
TEACHER = {"teacher": {"model": {"type": "mlp"}, "training": {"epochs": 2}}}
GIVEN = {"teacher": "model.pt"}


def load(**sections: Any) -> Experiment:
    return Experiment.load({name: value for name, value in {**BASE, **sections}.items() if value is not None})


@pytest.mark.parametrize(
    ("sections", "stages"),
    [
        ({}, ("train", "prune", "recover")),
        ({"export": {}}, ("train", "prune", "recover", "export")),
        ({"pruning": {**BASE["pruning"], "recovery": None}}, ("train", "prune")),
        ({"pruning": {**BASE["pruning"], "start": "initial"}}, ("prune", "recover")),
        ({"pruning": None}, ("train",)),
        ({"distillation": TEACHER}, ("train", "distill", "prune", "recover")),
        ({"distillation": GIVEN}, ("distill", "prune", "recover")),
        ({"model": {"type": "checkpoint", "path": "model.pt"}}, ("prune", "recover")),
        ({"pipeline": ["train", "prune"]}, ("train", "prune")),
    ],
    ids=str,
)
def test_stages_follow_from_the_sections(sections: dict[str, Any], stages: tuple[str, ...]) -> None:
    assert stages_of(load(**sections)) == stages


SENSIBLE = {
    ("train", "distill", "prune", "recover", "export"),
    ("train", "prune", "recover", "distill", "export"),  # the pruned model is the student
}


def test_of_all_orders_those_alone_pass_that_lose_nothing() -> None:
    names = ("train", "distill", "prune", "recover", "export")
    passed = set()
    for order in permutations(names):
        try:
            load(distillation=TEACHER, pipeline=list(order))
        except ExperimentError:
            continue
        passed.add(order)
    assert passed == SENSIBLE


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"pipeline": ["train", "train"]}, "train stands there twice"),
        (
            {"pipeline": ["prune", "train"]},
            "train begins anew, so what prune did before it would be lost",
        ),
        ({"pipeline": ["train", "recover", "prune"]}, "recover trains what prune has left, so it follows prune"),
        ({"pipeline": ["train", "export", "prune"]}, "export writes the finished model, so prune after it"),
        ({"pipeline": ["train", "quantize", "prune"]}, "prune changes weights of floating point"),
        ({"pipeline": ["train", "distill"]}, "the stage distill needs a distillation section"),
        ({"pipeline": ["train", "quantize"]}, "the stage quantize needs a quantization section"),
        ({"pipeline": ["export"]}, "there is nothing to compress by"),
        ({"pipeline": ["prune"]}, "prune comes first, but the model mlp is untrained"),
        ({"pipeline": ["train", "distill"], "distillation": GIVEN}, "train would train the student"),
        (
            {"pipeline": ["train", "prune", "recover"], "pruning": {**BASE["pruning"], "recovery": None}},
            "pruning.recovery is not there",
        ),
        (
            {"pipeline": ["train", "prune"], "pruning": {**BASE["pruning"], "schedule": "cubic"}},
            "recover is left out, but this pruning cannot do without",
        ),
        (
            {"pipeline": ["train", "prune"], "pruning": {"amount": 0.5, "schedule": {"type": "lottery", "rewind": 1}}},
            "the schedule lottery goes back to an epoch of the training",
        ),
        ({"pipeline": ["train"], "evaluation": {"cv": 3}}, "not by cross-validation"),
        ({"pipeline": ["train", "squeeze"]}, "squeeze"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_mistake_is_named(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError) as error:
        load(**sections)
    assert message in " ".join(str(error.value).split())
