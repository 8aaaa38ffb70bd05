"""Every optimizer against torch.optim: arguments, defaults, bounds, steps, and the round trip of its state."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.training.optimizers import Optimizer
from modelopt_cli.training.optimizers.muon import Muon

FAMILY = FAMILIES["optimizers"]
NAMES = FAMILY.names()
OF_TORCH = {item.lower(): getattr(torch.optim, item) for item in dir(torch.optim) if item[0].isupper()}
# What a training section has no use for: descending upwards, gradients of gradients, CUDA graphs.
LEFT_OUT = {"self", "params", "maximize", "differentiable", "capturable"}


def torch_class(name: str) -> type[torch.optim.Optimizer]:
    return OF_TORCH[name.replace("_", "")]


def test_every_torch_optimizer_has_a_strategy() -> None:
    ours = {name.replace("_", "") for name in NAMES}
    assert set(OF_TORCH) - {"optimizer"} <= ours


@pytest.mark.parametrize("name", NAMES)
def test_fields_are_torchs_arguments_with_torchs_defaults(name: str) -> None:
    strategy = FAMILY.get(name)
    arguments = inspect.signature(torch_class(name)).parameters
    fields = {key: item for key, item in strategy.model_fields.items() if not key.startswith("adamw_")}
    assert set(fields) == set(arguments) - LEFT_OUT
    for key, field in fields.items():
        assert field.default == arguments[key].default, key
        assert field.description


def test_fields_of_muons_other_optimizer_are_adamws() -> None:
    arguments = inspect.signature(torch.optim.AdamW).parameters
    for key, field in Muon.model_fields.items():
        if key.startswith("adamw_"):
            assert field.default == arguments[key.removeprefix("adamw_")].default


BOUNDS = [-1.0, -1e-9, 0.0, 0.5, 0.999, 1.0, 1.5]


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_bounded_as_torch_bounds_them(name: str) -> None:
    """What torch refuses is refused; what it takes is taken, but for counts and for decays torch forgot to bound."""
    strategy, built = FAMILY.get(name), torch_class(name)
    for key, default in ((key, field.default) for key, field in strategy.model_fields.items()):
        if key.startswith("adamw_") or not isinstance(default, float | tuple):
            continue
        for value in BOUNDS:
            tried = value if isinstance(default, float) else (value, *default[1:])
            try:
                options: dict[str, Any] = {key: tried}
                built([nn.Parameter(torch.zeros(2, 2))], **options)
                taken = True
            except ValueError:
                taken = False
            try:
                strategy.model_validate({key: tried})
                ours = True
            except ValidationError:
                ours = False
            assert ours <= taken, f"{name}.{key} = {tried}: torch refuses"
            assert ours == taken or value < 0, f"{name}.{key} = {tried}: torch takes"


@pytest.mark.parametrize("name", NAMES)
def test_two_steps_are_torchs_own(name: str) -> None:
    strategy = FAMILY.get(name)()
    if name == "muon":
        pytest.skip("compared below, part by part")
    assert isinstance(strategy, Optimizer)
    mine = nn.Embedding(4, 3, sparse=name == "sparse_adam")
    theirs = copy.deepcopy(mine)
    ours, reference = strategy.build(mine.parameters()), torch_class(name)(theirs.parameters())  # type: ignore[call-arg]
    for _ in range(2):
        for module, optimizer in ((mine, ours), (theirs, reference)):

            def closure(module: nn.Module = module, optimizer: torch.optim.Optimizer = optimizer) -> Any:
                optimizer.zero_grad()
                loss = (module(torch.tensor([0, 2])) ** 2).sum()
                loss.backward()
                return loss

            optimizer.step(closure)
    assert torch.equal(mine.weight, theirs.weight)


def test_muon_gives_matrices_to_muon_and_the_rest_to_adamw() -> None:
    torch.manual_seed(0)
    mine = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 3))
    theirs: Any = copy.deepcopy(mine)
    ours = Muon(lr=0.02, adamw_lr=0.01).build(mine.parameters())
    parts = [
        torch.optim.Muon([theirs[2].weight], lr=0.02),
        torch.optim.AdamW([theirs[0].weight, theirs[0].bias, theirs[2].bias], lr=0.01),
    ]
    for _ in range(3):
        for module, optimizers in ((mine, [ours]), (theirs, parts)):
            module.zero_grad()
            (module(torch.ones(2, 1, 3, 3)) ** 2).sum().backward()
            for optimizer in optimizers:
                optimizer.step()
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [group["lr"] for group in ours.param_groups] == [0.02, 0.01]


def test_muon_of_one_kind_of_parameter_is_that_optimizer_alone() -> None:
    assert isinstance(Muon().build([nn.Parameter(torch.zeros(2, 2))]), torch.optim.Muon)
    assert isinstance(Muon().build([nn.Parameter(torch.zeros(2))]), torch.optim.AdamW)


def test_negative_learning_rate_and_both_implementations_are_refused() -> None:
    for name in NAMES:
        with pytest.raises(ValidationError):
            FAMILY.get(name).model_validate({"lr": -0.1})
        if "fused" in FAMILY.get(name).model_fields:
            with pytest.raises(ValidationError, match="set one of them"):
                FAMILY.get(name).model_validate({"foreach": True, "fused": True})
