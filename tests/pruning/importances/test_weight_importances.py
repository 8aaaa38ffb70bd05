"""Every importance against a reference written from its formula, and the contract that all of them keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.pruning.common.statistics import Statistics
from modelopt_cli.pruning.importances import WeightImportance
from modelopt_cli.pruning.weights.collection import MovementMeter, collect
from modelopt_cli.training.batches import Batch

NAMES = [
    name for name in FAMILIES["importances"].names() if issubclass(FAMILIES["importances"].get(name), WeightImportance)
]
Scores = dict[str, Tensor]


def loss(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    assert weights is None
    return F.cross_entropy(outputs, targets)


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def conv_net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, stride=2, padding=1, dilation=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3))


def batches(shape: tuple[int, ...] = (4,), sizes: tuple[int, ...] = (7, 7, 3)) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for size in sizes:
        inputs = torch.randn(size, *shape, generator=generator) + 0.5
        made.append(Batch(inputs, torch.randint(0, 3, (size,), generator=generator), None, torch.arange(size)))
    return made


def matrices(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in module.named_parameters() if weight.ndim > 1}


def importance(name: str, **options: Any) -> WeightImportance:
    return FAMILIES["importances"].get(name).model_validate(options)  # type: ignore[return-value]


def scores(name: str, module: nn.Module, given: list[Batch] | None = None, **options: Any) -> Scores:
    """What ranks. Movement is collected by three steps of SGD."""
    given, criterion, weights = given or batches(), importance(name, **options), matrices(module)
    statistics = collect(module, weights, criterion.needs, lambda: given, loss)
    if "movement" in criterion.needs:
        statistics = Statistics({"movement": moved(module, given)})
    contributions = criterion.contributions(weights, statistics)
    return {name: criterion.merit(contributions[name]).clone() for name in weights}


def moved(module: nn.Module, given: list[Batch]) -> Mapping[str, Tensor]:
    meter, sgd = MovementMeter(matrices(module)), torch.optim.SGD(module.parameters(), lr=0.1)
    for batch in given:
        sgd.zero_grad()
        loss(module(batch.inputs), batch.targets, None).backward()
        meter.after_backward()
        sgd.step()
    return meter.sums


def samples(given: list[Batch]) -> list[tuple[Tensor, Tensor]]:
    return [(x.double(), y) for batch in given for x, y in zip(batch.inputs, batch.targets, strict=True)]


def sample_gradients(module: nn.Module, given: list[Batch]) -> list[Scores]:
    weights, gradients = matrices(module), []
    for x, y in samples(given):
        value = F.cross_entropy(module(x[None]), y[None])
        gradients.append(dict(zip(weights, torch.autograd.grad(value, list(weights.values())), strict=True)))
    return gradients


def mean_gradient(module: nn.Module, given: list[Batch]) -> Scores:
    each = sample_gradients(module, given)
    return {name: sum(one[name] for one in each) / len(each) for name in each[0]}  # type: ignore[misc]


def of_magnitude(module: nn.Module, given: list[Batch]) -> Scores:
    return {name: weight.abs() for name, weight in matrices(module).items()}


def of_gradient(module: nn.Module, given: list[Batch]) -> Scores:
    return {name: g.abs() for name, g in mean_gradient(module, given).items()}


def of_taylor(module: nn.Module, given: list[Batch]) -> Scores:
    return {name: (matrices(module)[name] * g).abs() for name, g in mean_gradient(module, given).items()}


def of_snip(module: nn.Module, given: list[Batch]) -> Scores:
    plain = of_taylor(module, given)
    total = sum(one.sum() for one in plain.values())
    return {name: each / total for name, each in plain.items()}


def of_fisher(module: nn.Module, given: list[Batch]) -> Scores:
    each = sample_gradients(module, given)
    squares = {name: sum(one[name] ** 2 for one in each) / len(each) for name in each[0]}
    return {name: matrices(module)[name] ** 2 * squares[name] / 2 for name in squares}


def of_grasp(module: nn.Module, given: list[Batch]) -> Scores:
    """The explicit Hessian over the pruned weights, times the gradient, times the weights."""
    weights = {name: weight.detach() for name, weight in matrices(module).items()}
    inputs, targets = torch.stack([x for x, _ in samples(given)]), torch.stack([y for _, y in samples(given)])

    def value(flat: Tensor) -> Tensor:
        parts = torch.split(flat, [weight.numel() for weight in weights.values()])
        named = {name: part.view_as(weights[name]) for name, part in zip(weights, parts, strict=True)}
        return F.cross_entropy(functional_call(module, named, (inputs,)), targets)

    flat = torch.cat([weight.reshape(-1) for weight in weights.values()])
    hessian = torch.autograd.functional.hessian(value, flat)
    gradient = torch.autograd.functional.jacobian(value, flat)
    product = flat * (hessian @ gradient)
    parts = torch.split(product, [weight.numel() for weight in weights.values()])
    return {name: part.view_as(weights[name]) for name, part in zip(weights, parts, strict=True)}


def of_synflow(module: nn.Module, given: list[Batch]) -> Scores:
    """|w| dR/d|w|, up to a factor that is the same for all weights, which is made 1 / the largest flow."""
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data.abs_()
    weights = matrices(module)
    total = module(torch.ones_like(given[0].inputs[:1]).double()).sum()
    flows = torch.autograd.grad(total, list(weights.values()))
    largest = max(float(flow.max()) for flow in flows)
    return {name: weight * flow / largest for (name, weight), flow in zip(weights.items(), flows, strict=True)}


def of_movement(module: nn.Module, given: list[Batch]) -> Scores:
    sums = {name: torch.zeros_like(weight) for name, weight in matrices(module).items()}
    for batch in given:
        gradients = torch.autograd.grad(
            F.cross_entropy(module(batch.inputs.double()), batch.targets), list(module.parameters())
        )
        named = dict(zip(dict(module.named_parameters()), gradients, strict=True))
        with torch.no_grad():
            for name, total in sums.items():
                total -= matrices(module)[name] * named[name]
            for name, parameter in module.named_parameters():
                parameter.sub_(0.1 * named[name])
    return sums


def layer_inputs(module: nn.Module, given: list[Batch]) -> dict[str, Tensor]:
    """(rows, in) inputs of each linear layer of the mlp."""
    rows = torch.stack([x for x, _ in samples(given)])
    first, between = module.get_submodule("0"), module.get_submodule("1")
    return {"0.weight": rows, "2.weight": between(first(rows))}


def of_wanda(module: nn.Module, given: list[Batch]) -> Scores:
    norms = {name: rows.norm(dim=0) / len(rows) ** 0.5 for name, rows in layer_inputs(module, given).items()}
    return {name: weight.abs() * norms[name][None] for name, weight in matrices(module).items()}


def inverse_hessians(module: nn.Module, given: list[Batch]) -> Scores:
    inverses = {}
    for name, rows in layer_inputs(module, given).items():
        hessian = torch.stack([torch.outer(x, x) for x in rows]).sum(0) / len(rows)
        inverses[name] = torch.linalg.inv(hessian + 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian)))
    return inverses


def of_obs(module: nn.Module, given: list[Batch]) -> Scores:
    inverses = inverse_hessians(module, given)
    return {name: weight**2 / (2 * inverses[name].diagonal()) for name, weight in matrices(module).items()}


def of_sparsegpt(module: nn.Module, given: list[Batch]) -> Scores:
    """Input j's error when the inputs before it are settled: 1 / [U_jj]^2 = 1 / [(H_j:,j:)^-1]_00."""
    scores = {}
    for name, weight in matrices(module).items():
        hessian = torch.linalg.inv(inverse_hessians(module, given)[name])
        diagonal = [torch.linalg.inv(hessian[j:, j:])[0, 0] for j in range(len(hessian))]
        scores[name] = weight**2 / torch.stack(diagonal)
    return scores


REFERENCES: dict[str, Callable[[nn.Module, list[Batch]], Scores]] = {
    name.removeprefix("of_"): value for name, value in list(globals().items()) if name.startswith("of_")
}


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_scores_are_the_papers_formula(name: str) -> None:
    score_of, expected = scores(name, mlp()), REFERENCES[name](mlp().double(), batches())
    assert list(score_of) == ["0.weight", "2.weight"]
    for layer, score in score_of.items():
        torch.testing.assert_close(score.double(), expected[layer].detach(), rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["gradient", "taylor", "snip", "fisher", "synflow", "grasp"])
def test_scores_of_a_convolution_with_batch_normalisation_are_the_papers_formula(name: str) -> None:
    given = batches((2, 5, 5))
    score_of, expected = scores(name, conv_net(), given), REFERENCES[name](conv_net().double().eval(), given)
    for layer, score in score_of.items():
        torch.testing.assert_close(score.double(), expected[layer].detach(), rtol=1e-3, atol=1e-6)


def test_every_importance_has_a_reference() -> None:
    missing = set(NAMES) - {*REFERENCES, "random"}
    assert not missing, f"write of_{min(missing)} above, from the paper's formula"
    assert set(REFERENCES) < set(NAMES)


def test_random_scores_are_uniform_and_depend_on_seed_and_name_alone() -> None:
    weight = nn.Parameter(torch.randn(100, 200))

    def drawn(weights: dict[str, nn.Parameter], seed: int) -> Scores:
        statistics = importance("random", seed=seed).contributions(weights, Statistics())
        return {name: statistics[name] for name in weights}

    first = drawn({"a": weight, "b": weight}, 0)
    torch.manual_seed(5)
    again = drawn({"b": nn.Parameter(torch.zeros(100, 200)), "c": weight}, 0)
    assert torch.equal(first["b"], again["b"])
    assert not torch.equal(first["a"], first["b"])
    assert not torch.equal(first["a"], drawn({"a": weight}, 1)["a"])
    ordered = first["a"].flatten().sort().values
    assert float((ordered - torch.linspace(0, 1, 20000)).abs().max()) < 0.015, "Kolmogorov and Smirnov, alpha < 0.1%"


def test_snip_scores_are_shares_of_all_tensors() -> None:
    assert sum(float(score.sum()) for score in scores("snip", mlp()).values()) == pytest.approx(1.0)
