"""A student that begins with its teacher's layers: which are taken, and that they are taken whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modelopt_cli.distillation.settings import DistillationSettings
from modelopt_cli.distillation.starting import start_from


def network(width: int = 8, depth: int = 2, outputs: int = 3) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(depth):
        layers += [nn.Linear(5 if number == 0 else width, width), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def learnt(module: nn.Module) -> nn.Module:
    """With statistics of its own, too."""
    module.train()
    for _ in range(3):
        module(torch.randn(16, 5) * 3 + 1)
    return module.eval()


def test_of_the_same_network_all_is_taken_and_nothing_is_shared() -> None:
    teacher, student, inputs = learnt(network()), network().eval(), torch.randn(7, 5)
    before = teacher(inputs).clone()
    assert start_from(student, teacher) == ["0", "1", "3", "4", "6"]
    assert torch.equal(student(inputs), before)
    assert int(student.state_dict()["1.num_batches_tracked"]) == 3
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    assert torch.equal(teacher(inputs), before)


def test_a_shallower_one_takes_the_layers_that_it_has() -> None:
    teacher, student = learnt(network(depth=3)), network(depth=2)
    drawn = student.state_dict()["6.weight"].clone()
    assert start_from(student, teacher) == ["0", "1", "3", "4"]  # its last layer stands where the teacher's third does
    assert torch.equal(student.state_dict()["6.weight"], drawn)


def test_a_layer_is_taken_whole_or_not_at_all() -> None:
    teacher, student = learnt(network(width=8)), network(width=6)
    drawn = {name: value.clone() for name, value in student.state_dict().items()}
    assert start_from(student, teacher) == []  # not even the last layer's bias, which has the same shape
    assert all(torch.equal(value, drawn[name]) for name, value in student.state_dict().items())


@pytest.mark.parametrize(
    ("section", "part"),
    [
        ({"ema": {}}, "with ema there is none to begin from"),
        ({"mutual": {}}, "with mutual there is none to begin from"),
        (
            {"teacher": {"model": {"type": "sklearn", "estimator": "sklearn.svm.SVC"}}},
            r"its teacher, sklearn, has no layers; leave out start",
        ),
    ],
)
def test_without_a_network_to_begin_from_it_is_refused(section: dict[str, object], part: str) -> None:
    losses = [{"type": "labels", "weight": 0.5}, {"type": "soft_targets", "weight": 0.5}]
    with pytest.raises(ValueError, match=part):
        DistillationSettings.model_validate({"start": "teacher", "losses": losses, **section})
