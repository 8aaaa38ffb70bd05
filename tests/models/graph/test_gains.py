"""Weights that are scaled by a number over themselves: units go where a gain takes the change, else they stay.

The reference is the dense module, with the activations of the units that went at 0 and nothing else changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from modelopt_cli.models.graph.axes import Mask, Prime
from modelopt_cli.models.graph.network import Network
from modelopt_cli.models.graph.rewriting import error
from modelopt_cli.models.graph.surgery import operate

pytestmark = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")


class Scaled(nn.Module):
    """A linear layer whose weight is computed in each call."""

    def __init__(self, inputs: int, outputs: int, way: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(outputs, inputs)), nn.Parameter(torch.randn(outputs))
        self.gain, self.one = nn.Parameter(1 + torch.rand(outputs)), nn.Parameter(torch.tensor(1.5))
        self.register_buffer("u", F.normalize(torch.randn(outputs), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(inputs), dim=0))
        self.way = way

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.way(self), self.bias)


class Net(nn.Module):
    """Two such layers and a plain one. `masks`: what the hidden activations are multiplied with."""

    def __init__(self, layer: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.a, self.b, self.c = layer(5, 12), layer(12, 8), nn.Linear(8, 3)
        self.masks: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.a(inputs).relu()
        hidden = self.b(hidden * self.masks[0] if self.masks else hidden).relu()
        return self.c(hidden * self.masks[1] if self.masks else hidden)


def network(layer: Callable[[int, int], nn.Module]) -> tuple[Net, Network]:
    torch.manual_seed(0)
    module, inputs = Net(layer), torch.randn(3, 5)
    for _ in range(5):
        module(inputs)  # power iterations
    module.eval()
    return module, Network(module, inputs)


def without(net: Network, names: list[str]) -> dict[Prime, Mask]:
    return {net.grouping.named(name).prime: np.arange(net.grouping.named(name).size) % 3 != 1 for name in names}


def silent(module: Net, names: list[str], inputs: Tensor) -> Tensor:
    sizes = {"a": 12, "b": 8}
    module.masks = [
        torch.from_numpy(np.arange(size) % 3 != 1).float() if name in names else torch.ones(size)
        for name, size in sizes.items()
    ]
    with torch.no_grad():
        outputs: Tensor = module(inputs)
    module.masks = []
    return outputs


def by_hand(way: Callable[[Any], Tensor]) -> Callable[[int, int], nn.Module]:
    return lambda inputs, outputs: Scaled(inputs, outputs, way)


def _sigma(m: Any) -> Tensor:
    return torch.sum(F.linear(m.u[None], m.weight.T) * m.v)


GAINS = {
    "weight norm, hook": lambda i, o: weight_norm(nn.Linear(i, o)),
    "weight norm, hook, whole": lambda i, o: weight_norm(nn.Linear(i, o), dim=None),  # type: ignore[arg-type]  # torch takes it, and does not say so
    "weight norm": lambda i, o: parametrizations.weight_norm(nn.Linear(i, o)),
    "spectral norm, hook": lambda i, o: spectral_norm(nn.Linear(i, o)),
    "spectral norm": lambda i, o: parametrizations.spectral_norm(nn.Linear(i, o)),
    "norm of rows by hand": by_hand(lambda m: m.weight * (m.gain / m.weight.norm(dim=1))[:, None]),
    "sum of squares by hand": by_hand(
        lambda m: m.gain[:, None] * (m.weight * (m.weight.pow(2).sum(1, keepdim=True) + 1e-8).rsqrt())
    ),
    "whole norm, one gain": by_hand(lambda m: m.one * m.weight / m.weight.norm()),
    "sigma by hand": by_hand(lambda m: m.weight / torch.dot(m.u, m.weight @ m.v)),
    "sigma by a sum": by_hand(lambda m: m.weight / _sigma(m)),
    "sigma by einsum": by_hand(lambda m: m.weight / torch.einsum("o,oi,i->", m.u, m.weight, m.v)),
}
"""Layers that may lose inputs and outputs."""

STATISTICS = {
    "demodulated": by_hand(lambda m: m.weight * (m.weight.pow(2).sum(1, keepdim=True) + 1e-8).rsqrt()),
    "sum of magnitudes": by_hand(lambda m: m.weight / m.weight.abs().sum()),
    "root of squares": by_hand(lambda m: m.weight / m.weight.pow(2).sum().sqrt()),
    "einsum": by_hand(lambda m: m.weight * torch.einsum("oi,oi->", m.weight, m.weight).rsqrt()),
    "trace of the gram": by_hand(lambda m: m.weight / torch.einsum("oi,pi->op", m.weight, m.weight).trace()),
    "product with itself": by_hand(lambda m: m.weight / (m.weight @ m.weight.T).pow(2).mean()),
    "columns, gain of rows": by_hand(lambda m: m.gain[:, None] * F.normalize(m.weight, dim=0)),
    "largest": by_hand(lambda m: m.weight / m.weight.abs().max()),
}
"""Layers without a gain that could take the change."""


@pytest.mark.slow
@pytest.mark.parametrize("name", GAINS)
def test_a_gain_takes_the_change(name: str) -> None:
    module, net = network(GAINS[name])
    inputs = torch.randn(7, 5)
    assert {group.name for group in net.groups if not group.shifts} == {"a", "b"}
    for names in (["a"], ["b"], ["a", "b"]):
        keep = without(net, names)
        expected = silent(module, names, inputs)
        graph = net.without(keep)
        assert (graph(inputs) - expected).abs().max() <= 1e-5 * expected.abs().max()
        assert error(net.captured.graph, net.analysis, keep, inputs) <= 1e-5


@pytest.mark.parametrize("name", ["weight norm", "spectral norm, hook", "sum of squares by hand"])
def test_in_place_and_in_rounds(name: str) -> None:
    module, net = network(GAINS[name])
    inputs = torch.randn(7, 5)
    first, both = without(net, ["a"]), without(net, ["a", "b"])
    expected = silent(module, ["a", "b"], inputs)
    net.pull(module)
    for keep in (first, both):
        operate(module, net.captured.graph, net.analysis, keep, net.held)
        net.held = dict(keep)
        with torch.no_grad():
            assert (module(inputs) - net.current()(inputs)).abs().max() <= 1e-5 * expected.abs().max()
    with torch.no_grad():
        assert (module(inputs) - expected).abs().max() <= 1e-5 * expected.abs().max()
    module.train()(inputs).sum().backward()
    unused = {"a.one", "b.one"}
    assert all(each.grad is not None for key, each in module.named_parameters() if key not in unused)


@pytest.mark.slow
@pytest.mark.parametrize("name", STATISTICS)
def test_without_a_gain_units_stay_or_go_without_a_trace(name: str) -> None:
    module, net = network(STATISTICS[name])
    inputs = torch.randn(7, 5)
    groups = {group.name: group for group in net.groups}
    assert "a" not in groups or groups["a"].shifts or name == "columns, gain of rows"
    for each in groups.values():
        if not each.shifts:
            expected = silent(module, [each.name], inputs)
            given = net.without(without(net, [each.name]))(inputs)
            assert (given - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_reason_names_what_is_computed() -> None:
    _, net = network(STATISTICS["sum of magnitudes"])
    assert {group.name: set(group.shifts) for group in net.groups} == {
        "a": {"a sum of weights in a", "a sum of weights in b"},
        "b": {"a sum of weights in b"},
    }


@pytest.mark.parametrize(
    "way",
    [
        lambda m: (s := m.weight.abs().amax(1, keepdim=True) / 127) * (m.weight / s).round(),
        lambda m: (m.weight - m.weight.mean(1, keepdim=True)) / m.weight.std(1, keepdim=True),
        lambda m: m.weight / m.weight.abs().sum(1, keepdim=True),
    ],
)
def test_rows_are_divided_by_what_they_are_not_by_zero(way: Callable[[Any], Tensor]) -> None:
    module, net = network(by_hand(way))
    inputs, keep = torch.randn(7, 5), without(net, ["b"])
    assert not net.grouping.named("b").shifts
    assert error(net.captured.graph, net.analysis, keep, inputs) <= 1e-5
    expected = silent(module, ["b"], inputs)
    assert (net.without(keep)(inputs) - expected).abs().max() <= 1e-5 * expected.abs().max()


class Divided(nn.Module):
    """A scale by which units are divided."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.scale = nn.Linear(5, 6), nn.Linear(6, 3), nn.Parameter(1 + torch.rand(6))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.b(self.a(inputs) / self.scale)


def test_a_divisor_is_no_zero() -> None:
    torch.manual_seed(0)
    net = Network(Divided(), torch.randn(3, 5))
    (group,) = net.groups
    keep = {group.prime: np.arange(6) % 3 != 1}
    assert error(net.captured.graph, net.analysis, keep, torch.randn(4, 5)) <= 1e-5


class Modulated(nn.Module):
    """StyleGAN2: weights are scaled by a style and divided by their norm, which is a number of each sample."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.a, self.style, self.fused = nn.Linear(5, 6), nn.Linear(5, 6), fused
        self.weight, self.b = nn.Parameter(torch.randn(4, 6)), nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden, style = self.a(inputs).relu(), self.style(inputs)
        scaled = self.weight * style[:, None]  # (B, 4, 6)
        norm = (scaled.square().sum(2) + 1e-8).rsqrt()
        if self.fused:
            return self.b(torch.einsum("bi,boi->bo", hidden, scaled * norm[:, :, None]))
        return self.b(F.linear(hidden * style, self.weight) * norm)


@pytest.mark.parametrize("fused", [False, True])
def test_a_norm_of_modulated_weights_is_a_statistic(fused: bool) -> None:
    torch.manual_seed(0)
    net = Network(Modulated(fused), torch.randn(3, 5))
    (group,) = [each for each in net.groups if any(place.tensor == "a.weight" for place in each.places)]
    assert set(group.shifts) == {"a sum of weights in the model"}
