"""The fitted model of a network's time: of the right form, positive, monotone. No clock decides a test here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from modelopt_cli.models.graph import latency
from modelopt_cli.models.graph.latency import LatencyModel
from modelopt_cli.models.graph.network import Network
from tests.support import zoo as ZOO


def made() -> Network:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2)]
    module = ZOO.prepare(nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)))
    return Network(module, torch.randn(4, 3, 16, 16))


def test_it_is_positive_and_monotone() -> None:
    network, inputs = made(), torch.randn(8, 3, 16, 16)
    model = LatencyModel(network, network.groups, inputs)
    first, second = network.groups
    assert model.milliseconds({}) > 0
    for group in (first, second):
        times = [model.milliseconds({group.prime: count}) for count in range(1, group.size + 1)]
        assert all(time > 0 for time in times)
        assert times == sorted(times)
    assert model.milliseconds({first.prime: 1, second.prime: 1}) <= model.milliseconds({first.prime: 1})
    before = model.milliseconds({first.prime: 3})
    model.correct(2.0)
    assert model.milliseconds({first.prime: 3}) == pytest.approx(2 * before)


class Clock:
    """Says that a node took what a formula of its work gives, and the whole network twice their sum."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def of(self, node: str, counts: dict[object, int]) -> float:
        macs = self.network.costs.macs_of(counts).get(node, 0)  # type: ignore[arg-type]
        return 0.01 + 2e-6 * macs


def test_what_was_measured_is_reproduced_and_what_lies_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """With times that are a + b MACs of each node, the model knows them at any width; the whole sets the scale."""
    network = made()
    first, second = network.groups
    clock = Clock(network)
    names = [node.name for node in network.captured.graph.graph.nodes if node.op == "call_function"]

    class Timed:
        def __init__(self, graph: torch.fx.GraphModule) -> None:
            sizes = [tuple(parameter.shape) for name, parameter in graph.named_parameters() if name.endswith("weight")]
            counts = {first.prime: sizes[0][0], second.prime: sizes[2][0]}
            self.least = {name: clock.of(name, counts) for name in names}  # type: ignore[arg-type]

        def run(self, inputs: torch.Tensor) -> None:
            pass

    def total(counts: dict[object, int]) -> float:
        return sum(clock.of(name, counts) for name in names)

    monkeypatch.setattr(latency, "_Timed", Timed)
    monkeypatch.setattr(latency, "_whole", lambda graph, inputs: 2 * total({}))
    model = LatencyModel(network, network.groups, torch.randn(2, 3, 16, 16))
    for counts in ({}, {first.prime: 8, second.prime: 16}, {first.prime: 3, second.prime: 29}, {first.prime: 5}):
        assert model.milliseconds(counts) == pytest.approx(2 * total(counts), rel=1e-3)  # type: ignore[arg-type]


def test_of_what_is_left_the_rest_is_measured() -> None:
    network, inputs = made(), torch.randn(2, 3, 16, 16)
    first, second = network.groups
    mask = np.arange(16) % 2 == 0
    graph = network.without({first.prime: mask})
    for name, parameter in graph.named_parameters():
        latency_name = name
        module = network.captured.graph
        *path, last = latency_name.split(".")
        for part in path:
            module = getattr(module, part)
        module._parameters[last] = parameter
    for name, buffer in graph.named_buffers():
        *path, last = name.split(".")
        module = network.captured.graph
        for part in path:
            module = getattr(module, part)
        module._buffers[last] = buffer
    network.held = {first.prime: mask}
    model = LatencyModel(network, network.groups, inputs)
    held = network.counts()
    assert held == {first.prime: 8}
    assert 0 < model.milliseconds({**held, second.prime: 1}) <= model.milliseconds(held)
