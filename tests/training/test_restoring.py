"""A training that goes on from a state under other settings: those settings count, and the weights are the state's."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modelopt_cli.core.errors import TrialError
from modelopt_cli.core.seeds import derive
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.training.trainer import Trainer
from tests.support.training_fakes import mlp, prepared, settings


def trainer(module: nn.Module | None = None, seed: int = 1, **given: Any) -> Trainer:
    return Trainer(module or mlp(), settings(**given), prepared(), seed=seed, device="cpu")


def order(seed: int, epoch: int) -> torch.Tensor:
    return torch.randperm(60, generator=torch.Generator().manual_seed(derive(seed, "shuffle", epoch)))


def plain(**given: Any) -> dict[str, Any]:
    return {"foreach": False, "fused": False, **given}


def test_the_new_settings_count_from_there_on_as_in_a_loop_written_by_hand() -> None:
    """Learning rate, momentum, weight decay, batch size, smoothing and clipping change; the schedule goes on."""
    before = plain(type="sgd", lr=0.1, momentum=0.9)
    after = plain(type="sgd", lr=0.05, momentum=0.5, weight_decay=0.1)
    parent = trainer(seed=1, epochs=5, batch_size=16, optimizer=before, schedule="cosine")
    parent.advance(2)
    child = trainer(
        mlp(seed=9), 2, epochs=5, batch_size=20, optimizer=after, schedule="cosine", label_smoothing=0.2, clip_norm=0.3
    )
    child.load_state(pickle.loads(pickle.dumps(parent.state())))
    reports = child.advance(5)
    assert [epoch for epoch, _ in reports] == [3, 4, 5]

    module, data = mlp(), prepared()
    inputs, targets = torch.from_numpy(data.train.inputs), torch.from_numpy(data.train.targets)
    sgd = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, foreach=False)
    for epoch in range(1, 6):
        seed, size, rate, smoothing = (1, 16, 0.1, 0.0) if epoch <= 2 else (2, 20, 0.05, 0.2)
        if epoch == 3:
            sgd.param_groups[0].update(momentum=0.5, weight_decay=0.1)
        batches = order(seed, epoch).split(size)
        for number, batch in enumerate(batches):
            done = ((epoch - 1) * len(batches) + number) / (5 * len(batches))
            sgd.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * done)) / 2
            sgd.zero_grad()
            F.cross_entropy(module(inputs[batch]), targets[batch], label_smoothing=smoothing).backward()
            if epoch > 2:
                nn.utils.clip_grad_norm_(module.parameters(), 0.3)
            sgd.step()
    for tensor, expected in zip(child.module.parameters(), module.parameters(), strict=True):
        assert torch.allclose(tensor, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in FAMILIES["optimizers"].names() if name != "sparse_adam"])
def test_every_optimizer_keeps_its_memories_and_takes_the_new_rate(name: str) -> None:
    parent = trainer(optimizer={"type": name, "lr": 0.01}, epochs=3)
    parent.advance(1)
    child = trainer(mlp(seed=5), optimizer={"type": name, "lr": 0.02}, epochs=3)
    child.load_state(parent.state())
    optimizers: list[Any] = [each.optimizer for each in (parent, child)]
    assert optimizers[1].param_groups[0]["lr"] == 0.02
    tensors = [
        [value for state in each.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
        for each in (optimizers if name != "muon" else [part for each in optimizers for part in each.parts[:1]])
    ]
    assert len(tensors[0]) == len(tensors[1])
    assert all(torch.equal(a, b) for a, b in zip(*tensors, strict=True))
    child.advance(3)
    assert child.epoch == 3


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"type": "sgd", "lr": 0.1, "momentum": 0.9}, {"type": "adam", "lr": 0.01}),
        ({"type": "rmsprop", "lr": 0.01}, {"type": "rmsprop", "lr": 0.01, "momentum": 0.9}),
        ({"type": "rmsprop", "lr": 0.01}, {"type": "rmsprop", "lr": 0.01, "centered": True}),
        ({"type": "adam", "lr": 0.01}, {"type": "adam", "lr": 0.01, "amsgrad": True}),
    ],
    ids=["another type", "momentum", "centered", "amsgrad"],
)
def test_an_optimizer_that_needs_other_memories_begins_without(before: dict[str, Any], after: dict[str, Any]) -> None:
    parent = trainer(optimizer=before)
    parent.advance(2)
    state = parent.state()
    child, fresh = trainer(optimizer=after), trainer(optimizer=after)
    child.load_state(state)
    assert not child.optimizer.state
    fresh.module.load_state_dict(state["module"])
    fresh.epoch = 2
    assert child.advance(3) == fresh.advance(3)


def test_dropout_and_patience_are_the_new_ones() -> None:
    def with_dropout(share: float) -> nn.Module:
        return mlp(dropout=share)

    parent = trainer(with_dropout(0.1), patience=9)
    parent.advance(2)
    child = trainer(with_dropout(0.8), patience=9)
    child.load_state(parent.state())
    assert [layer.p for layer in child.module.modules() if isinstance(layer, nn.Dropout)] == [0.8]
    same = trainer(with_dropout(0.1), patience=9)
    same.load_state(parent.state())
    assert child.advance(3) != same.advance(3)


@pytest.mark.parametrize(
    ("module", "what"),
    [
        (
            nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)),
            r"'0.weight' has the shape \(16, 5\) in the state",
        ),
        (nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.ReLU(), nn.Linear(16, 3)), "'3.weight' is in the model alone"),
        (nn.Sequential(nn.Linear(5, 3)), "'0.weight' has the shape"),
    ],
    ids=["width", "depth", "fewer"],
)
def test_a_state_that_does_not_fit_is_one_clear_failure(module: nn.Module, what: str) -> None:
    parent = trainer()
    parent.advance(1)
    with pytest.raises(TrialError, match=f"does not fit its model: {what}.*scheduler.perturb"):
        trainer(module).load_state(parent.state())
