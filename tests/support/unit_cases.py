"""What the tests of pruning units share: networks, small and from scripts/bench, batches, pruners, brute force."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.models.graph.axes import Mask, Prime
from modelopt_cli.models.graph.groups import Group
from modelopt_cli.models.graph.network import Network
from modelopt_cli.pruning.common.distances import divergence
from modelopt_cli.pruning.compensations import UnitCompensation
from modelopt_cli.pruning.settings import PruningSettings
from modelopt_cli.pruning.units.pruner import UnitPruner
from modelopt_cli.training.batches import Batch
from tests.support import zoo as ZOO

# Networks, (B, ...) -> (B, classes)


def mlp() -> nn.Module:
    """(B, 6) -> (B, 4)."""
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 4))


def cnn() -> nn.Module:
    """(B, 2, 8, 8) -> (B, 4). In-place ReLU, batch normalization, pooling, flattened maps."""
    first = [nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)]
    second = [nn.Conv2d(8, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(24, 4))


class Residual(nn.Module):
    """A stem and two blocks; the second halves maps and doubles channels, by zero padding (A) or a convolution (B)."""

    def __init__(self, shortcut: str) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.blocks = nn.Sequential(ZOO.BasicBlock(6, 6, 1, shortcut), ZOO.BasicBlock(6, 12, 2, shortcut))
        self.head = nn.Linear(12, 4)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 2, 8, 8) -> (B, 4)."""
        return self.head(self.blocks(torch.relu(self.norm(self.stem(images)))).mean((2, 3)))


class Attention(nn.Module):
    """Two heads of width 4, linear layers or GPT-2's Conv1D (a weight (in, out), addmm), a shortcut, then an MLP."""

    def __init__(self, linear: Callable[[int, int], nn.Module] = nn.Linear) -> None:
        super().__init__()
        self.embed, self.norm = linear(5, 12), nn.LayerNorm(12)
        self.query, self.key, self.value, self.out = linear(12, 8), linear(12, 8), linear(12, 8), linear(8, 12)
        self.wide, self.narrow, self.head = linear(12, 20), linear(20, 12), linear(12, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, N, 5) -> (B, 4)."""
        hidden = torch.tanh(self.embed(inputs))
        batch, positions, _ = hidden.shape
        within = self.norm(hidden)
        query, key, value = (
            layer(within).view(batch, positions, 2, 4).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, positions, 8)
        hidden = hidden + self.out(mixed)
        return self.head((hidden + self.narrow(F.gelu(self.wide(hidden)))).mean(1))


class Conv1D(nn.Module):
    """GPT-2's layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, given: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        flat = given.reshape(-1, given.shape[-1])
        return torch.addmm(self.bias, flat, self.weight).view(*given.shape[:-1], -1)


class Recurrent(nn.Module):
    """An LSTM between linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Linear(5, 8), nn.LSTM(8, 10, batch_first=True)
        self.middle, self.head = nn.Linear(10, 8), nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, N, 5) -> (B, 4)."""
        hidden, _ = self.lstm(torch.tanh(self.embed(inputs)))
        return self.head(torch.relu(self.middle(hidden[:, -1])))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (6,)),
    "cnn": (cnn, (2, 8, 8)),
    "shortcut A": (lambda: Residual("A"), (2, 8, 8)),
    "shortcut B": (lambda: Residual("B"), (2, 8, 8)),
    "attention": (Attention, (6, 5)),
    "addmm": (lambda: Attention(Conv1D), (6, 5)),
    "lstm": (Recurrent, (6, 5)),
}


def make(name: str) -> nn.Module:
    """In evaluation mode; its outputs depend on every unit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ZOO.prepare(NETWORKS[name][0]())


def inputs_of(name: str, count: int, seed: int = 1) -> Tensor:
    """Normal, with means that differ from place to place."""
    generator = torch.Generator().manual_seed(seed)
    shape = NETWORKS[name][1]
    return torch.randn(count, *shape, generator=generator) + 0.5 * torch.randn(shape, generator=generator)


def network_of(name: str) -> Network:
    return Network(make(name), inputs_of(name, 4))


@cache
def unchanged(name: str) -> Network:
    """The same for all tests that leave it as it is."""
    return network_of(name)


def batches(inputs: Tensor, sizes: Sequence[int] | None = None, classes: int = 4) -> list[Batch]:
    targets = torch.randint(0, classes, (len(inputs),), generator=torch.Generator().manual_seed(2))
    parts = zip(inputs.split(list(sizes or [len(inputs)])), targets.split(list(sizes or [len(inputs)])), strict=True)
    return [Batch(x, y, None, torch.arange(len(x))) for x, y in parts]


def loss(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    return F.cross_entropy(outputs, targets)


def settings(**pruning: Any) -> PruningSettings:
    return PruningSettings.model_validate({"structure": "neurons", **pruning})


def pruner(
    network: Network, given: Sequence[Batch], groups: Sequence[Group] | None = None, **pruning: Any
) -> UnitPruner:
    chosen = [group for group in network.groups if not group.shifts] if groups is None else groups
    return UnitPruner(network, settings(**pruning), chosen, batches=lambda: given, loss=loss, distance=divergence)


def compensation(name: str, **options: Any) -> UnitCompensation:
    strategy = FAMILIES["compensations"].get(name).model_validate(options)
    assert isinstance(strategy, UnitCompensation)
    return strategy


def half(groups: Sequence[Group], share: float = 0.5, seed: int = 0) -> dict[Prime, Mask]:
    """Of every group, so much goes, at random."""
    generator = np.random.default_rng(seed)
    return {group.prime: generator.permutation(group.size) >= int(share * group.size) for group in groups}


@torch.no_grad()
def outputs(graph: nn.Module, inputs: Tensor) -> Tensor:
    outputs = graph(inputs)
    assert isinstance(outputs, Tensor)
    return outputs


def tensors_of(graph: fx.GraphModule) -> dict[str, Tensor]:
    """All tensors that the graph uses, by name: the objects themselves."""
    caught = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            value: Any = graph
            for part in str(node.target).split("."):
                value = getattr(value, part)
            caught[str(node.target)] = value
    return caught


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@cache
def zoo_network(name: str) -> tuple[Network, Tensor]:
    """From scripts/bench, with 24 inputs; what a test changes in it, it puts back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inputs = ZOO.ZOO[name].inputs(24)
    return Network(ZOO.make(name), inputs[:4]), inputs
