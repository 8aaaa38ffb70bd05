"""What a network costs by the formula over its axes, against the counters that run it: whole, and smaller."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from modelopt_cli.models.graph.axes import Mask, Prime
from modelopt_cli.models.graph.network import Network
from modelopt_cli.models.measure import macs
from modelopt_cli.models.summary import summarise
from tests.support import zoo as ZOO

NAMES = ["mlp", "lenet", "cifar_resnet_a", "densenet", "mobilenet_v2", "unet", "vit", "transformer_encoder_layer"]
NAMES += ["lstm2_bi", "tied_embeddings", "shared_module", "einsum_attention", "modelopt_transformer"]


@cache
def captured(name: str) -> tuple[Network, Tensor]:
    torch.manual_seed(0)
    inputs = ZOO.ZOO[name].inputs(3)
    return Network(ZOO.make(name), inputs), inputs


def some(network: Network, seed: int) -> dict[Prime, Mask]:
    """At least two units stay: torch's einsum takes no product where a size is 1, so that the counters see none."""
    generator = np.random.default_rng(seed)
    return {
        group.prime: generator.permutation(group.size) < generator.integers(2, group.size + 1)
        for group in network.groups
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_costs_are_what_the_counters_count(name: str) -> None:
    network, inputs = captured(name)
    costs = network.costs
    for seed in (None, 0, 1):
        keep = {} if seed is None else some(network, seed)
        counts = network.counts(keep)
        graph = network.without(keep)
        assert costs.macs(counts) == macs(graph, inputs[:1])[""]
        counted = summarise(graph)
        assert costs.parameters(counts) == counted["model.parameters"]
        assert costs.tensor_bytes(counts) >= counted["model.size_bytes"]
        assert sum(costs.macs_of(counts).values()) == costs.macs(counts)


@pytest.mark.parametrize("name", ["mlp", "lenet", "cifar_resnet_a", "lstm2_bi", "tied_embeddings"])
def test_bytes_are_those_of_parameters_and_buffers(name: str) -> None:
    """Where there are no constants beside them."""
    network, _ = captured(name)
    for keep in ({}, some(network, 2)):
        counted = summarise(network.without(keep))
        extra = sum(  # counters of batches are no part of what is evaluated
            buffer.element_size() * buffer.numel()
            for key, buffer in network.captured.graph.named_buffers()
            if key.endswith("num_batches_tracked")
        )
        assert network.costs.tensor_bytes(network.counts(keep)) in (
            counted["model.size_bytes"],
            counted["model.size_bytes"] - extra,
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_unit_costs_something_and_nothing_costs_less_than_nothing(name: str) -> None:
    """Monotone: fewer units of any group never cost more."""
    network, _ = captured(name)
    costs = network.costs
    for group in network.groups:
        sizes = range(group.size, 0, -max(1, group.size // 4))
        for cost in (costs.macs, costs.parameters, costs.tensor_bytes):
            costs_of = [cost({group.prime: size}) for size in sizes]
            assert costs_of == sorted(costs_of, reverse=True)
        assert costs.parameters({group.prime: 1}) < costs.parameters({})
    whole = {group.prime: group.size for group in network.groups}
    assert costs.macs(whole) == costs.macs({})


def test_samples_do_not_count() -> None:
    """The example had three of them."""
    module = ZOO.make("lenet")
    inputs = ZOO.ZOO["lenet"].inputs(5)
    assert Network(module, inputs).costs.macs({}) == captured("lenet")[0].costs.macs({})
