"""Units out of a module that a program holds: smaller, working, the module itself as it was; and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.graph.emitted import Emitted
from modelopt_cli.models.measure import macs
from modelopt_cli.workflows.shrink_module import Shrunk, shrink

SAMPLES = 200


class Cnn(nn.Module):
    """Its flattened size is written out, as an attribute or not at all."""

    def __init__(self, hard: bool = False) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.inner, self.head = nn.Linear(12 * 16, 20), nn.Linear(20, 5)
        self.hard = hard

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 8, 8) -> (B, 5)."""
        maps = F.max_pool2d(F.relu(self.norm(self.conv1(images))), 2)
        maps = F.relu(self.conv2(maps))
        flat = maps.reshape(-1, 12 * 16) if self.hard else maps.flatten(1)
        return self.head(F.relu(self.inner(flat)))


def made(hard: bool = False) -> nn.Module:
    torch.manual_seed(0)
    module = Cnn(hard)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)
        module.norm.running_mean.normal_(0.0, 0.2)  # type: ignore[union-attr]
    return module


def images(count: int = SAMPLES) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def run(module: nn.Module, given: Tensor) -> Tensor:
    with torch.no_grad():
        return module.eval()(given)  # type: ignore[no-any-return]


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_a_smaller_module_comes_out_and_the_given_one_stays() -> None:
    module = made().train()
    before, graph = copy.deepcopy(module.state_dict()), {part: part.training for part in module.modules()}
    found = shrink(module, images(), {"amount": 0.5, "importance": "l2"})
    assert isinstance(found, Shrunk)
    assert parameters(found.module) < 0.6 * parameters(module)
    assert type(found.module) is Cnn
    assert found.module.conv1.out_channels == found.module.conv1.weight.shape[0] < 8  # type: ignore[union-attr,operator]
    assert found.module.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())
    assert all(part.training == mode for part, mode in graph.items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not {id(each) for each in module.parameters()} & {id(each) for each in found.module.parameters()}
    assert found.warnings == ()
    table = {row[0]: row for row in found.groups.rows}
    assert set(table) == {"conv1", "conv2", "inner"}
    assert sum(row[2] for row in table.values()) == 20
    assert table["conv1"][2] == found.module.conv1.out_channels  # type: ignore[union-attr]


def test_compensation_makes_up_for_it_in_both_forms() -> None:
    module, given = made(), images()
    dense = run(module, given)
    errors = {}
    for apply in ("module", "graph"):
        for compensation in ("none", "least_squares"):
            pruning = {
                "amount": 0.4,
                "importance": "obs",
                "structure": {"type": "neurons", "apply": apply},
                "compensation": compensation,
            }
            found = shrink(module, given, pruning)
            assert isinstance(found.module, Emitted) == (apply == "graph")
            errors[apply, compensation] = float((run(found.module, given) - dense).square().mean())
    for apply in ("module", "graph"):
        assert errors[apply, "least_squares"] < 0.7 * errors[apply, "none"]
    assert errors["module", "least_squares"] == pytest.approx(errors["graph", "least_squares"], rel=1e-3)


def test_what_comes_out_can_be_trained_and_shrunk_again() -> None:
    given = images()
    for apply in ("module", "graph"):
        structure = {"type": "neurons", "apply": apply}
        once = shrink(made(), given, {"amount": 0.3, "importance": "l1", "structure": structure}).module
        loss = once.train()(given[:32]).square().mean()
        loss.backward()
        assert all(parameter.grad is not None for parameter in once.parameters())
        twice = shrink(once.eval(), given, {"amount": 0.3, "importance": "l1", "structure": structure}).module
        assert parameters(twice) < parameters(once)
        assert run(twice, given[:3]).shape == (3, 5)
        assert not twice.training


@pytest.mark.parametrize(
    ("budget", "cost"),
    [
        ({"parameters": "50%"}, parameters),
        ({"flops": "50%"}, lambda module: macs(module, images(1))[""]),
        ({"size_bytes": "60%"}, lambda module: 4 * parameters(module)),
    ],
)
def test_a_budget_is_met(budget: dict[str, Any], cost: Any) -> None:
    module = made()
    found = shrink(module, images(), {"budget": budget, "importance": "l2"})
    share = float(next(iter(budget.values()))[:-1]) / 100
    assert 0.9 * share * cost(module) <= cost(found.module) <= share * cost(module)


def test_a_share_that_cannot_be_reached_is_told() -> None:
    structure = {"type": "neurons", "limits": {"conv*": 0.25}}
    reached = shrink(made(), images(), {"amount": 0.5, "importance": "l2", "structure": structure})
    assert reached.warnings == ()
    assert sum(row[2] for row in reached.groups.rows) == 20
    short = shrink(made(), images(), {"amount": 0.9, "importance": "l2", "structure": structure})
    assert [row[2] for row in short.groups.rows] == [6, 9, 1]
    assert "asks for 90.0% of the units, but 24 of 40 are gone (60.0%)" in short.warnings[0]


def test_targets_count_for_importances_on_gradients() -> None:
    module, given = made(), images()
    classes = run(module, given).argmax(1)
    ours, others = (
        shrink(module, given, {"amount": 0.5, "importance": "taylor"}, targets=targets)
        for targets in (classes, (classes + 1) % 5)
    )
    assert not all(
        torch.equal(one, other) if one.shape == other.shape else False
        for one, other in zip(ours.module.parameters(), others.module.parameters(), strict=True)
    )
    numbers = shrink(
        module, given, {"amount": 0.3, "importance": "taylor"}, targets=run(module, given), task="regression"
    )
    assert parameters(numbers.module) < parameters(module)


def test_a_hard_coded_size_takes_the_graph_and_says_so() -> None:
    module, given = made(hard=True), images()
    found = shrink(module, given, {"amount": 0.5, "importance": "l2"})
    assert isinstance(found.module, Emitted)
    assert "its exported graph takes its place" in found.warnings[0]
    assert run(found.module, given[:7]).shape == (7, 5)
    alone = shrink(
        module, given, {"amount": 0.5, "importance": "l2", "structure": {"type": "neurons", "apply": "module"}}
    )
    assert type(alone.module) is Cnn
    assert alone.module.conv2.out_channels == 12  # type: ignore[union-attr]
    assert alone.module.conv1.out_channels < 8  # type: ignore[union-attr,operator]


def test_a_threshold_of_activity_as_in_the_first_article() -> None:
    module, given = made(), images()
    with torch.no_grad():
        module.inner.weight[:7].zero_()  # type: ignore[union-attr,operator]
        module.inner.bias[:7] = -1.0  # type: ignore[union-attr,operator,index]
    flat = F.relu(module.conv2(F.max_pool2d(F.relu(module.eval().norm(module.conv1(given))), 2))).flatten(1)  # type: ignore[union-attr,operator]
    alive = (F.relu(module.inner(flat)) > 0).any(0)  # type: ignore[operator]
    found = shrink(module, given, {"threshold": 1e-6, "importance": "activation_mean"})
    assert found.module.inner.out_features == int(alive.sum()) <= 13  # type: ignore[union-attr]
    assert torch.allclose(run(found.module, given), run(module, given), rtol=1e-5, atol=1e-5)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(64, 8), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.inner(images.flatten(1))
        if hidden.sum() > 0:
            hidden = hidden * 2
        return self.head(hidden)


@pytest.mark.parametrize(
    ("pruning", "message"),
    [
        ({}, "say how much goes by exactly one of threshold, amount and budget"),
        ({"amount": 1.5}, "amount: .*less than 1"),
        ({"amount": 0.5, "importanc": "l2"}, "importanc: Extra inputs"),
        ({"amount": 0.5, "structure": "weights"}, "structure weights sets zeros; shrink takes units out: use neurons"),
        ({"amount": 0.5, "recovery": {"epochs": 1}}, "recovery needs training; shrink prunes once"),
        ({"amount": 0.5, "schedule": "one_shot"}, "schedule needs training"),
        ({"amount": 0.5, "importance": "snip"}, "importance snip scores weights, no units"),
        ({"amount": 0.5, "include": ["nowhere"]}, "'nowhere' matches no group of units"),
        ({"budget": {"parameters": 3}, "importance": "l2"}, "budget.parameters is 3, but .* are left when all"),
        ({"amount": 0.5, "importance": "bn_scale"}, "go through no normalization"),
    ],
)
def test_what_cannot_be_is_said(pruning: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shrink(made(), images(16), pruning)


def test_a_module_that_cannot_be_captured_is_explained() -> None:
    torch.manual_seed(0)
    with pytest.raises(UsageError) as raised:
        shrink(Branching(), images(16), {"amount": 0.5})
    assert "captured" in str(raised.value)


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (images(1), None, "at least 2 samples"),
        (torch.randn(16, 3, 8, 8), None, r"fails on inputs of shape \(4, 3, 8, 8\): .*expected .* channels"),
        (images(16), torch.zeros(15, dtype=torch.int64), "there are 16 inputs, but 15 targets"),
    ],
)
def test_samples_that_do_not_fit(inputs: Tensor, targets: Tensor | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shrink(made(), inputs, {"amount": 0.5}, targets=targets)


@pytest.mark.parametrize(
    "pruning", [{"importance": "taylor"}, {"importance": "hessian"}, {"allocation": "sensitivity"}]
)
def test_what_looks_at_the_loss_takes_targets(pruning: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="looks at the loss, which takes targets"):
        shrink(made(), images(16), {"amount": 0.5, **pruning})
