"""A graph in the place of a module: the same outputs, training like it, other tensors with the same names."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelopt_cli.models.graph.emitted import Emitted
from modelopt_cli.models.graph.network import Network
from tests.support import zoo as ZOO

NAMES = ["mlp", "vgg_bn", "cifar_resnet_a", "lstm1", "gru2_bi", "transformer_encoder_layer", "tied_embeddings", "vit"]


class Dropped(nn.Module):
    """Dropout of two kinds, and batch statistics that are never running ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6, track_running_stats=False)
        self.inner, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 2, 8, 8) -> (B, 3)."""
        maps = F.dropout2d(torch.relu(self.norm(self.conv(images))), 0.5, self.training)
        return self.head(F.dropout(torch.relu(self.inner(maps.mean((2, 3)))), 0.5, self.training))


def pair(name: str) -> tuple[nn.Module, Emitted, Tensor]:
    """The module, a graph of a copy of it, and a batch."""
    module = ZOO.make(name)
    torch.manual_seed(0)
    inputs = ZOO.ZOO[name].inputs(6)
    return module, Emitted(Network(copy.deepcopy(module), inputs[:4]).captured.graph), inputs


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_computes_and_names_what_the_module_does(name: str) -> None:
    module, emitted, inputs = pair(name)
    with torch.no_grad():
        assert torch.allclose(emitted.eval()(inputs), module(inputs), rtol=1e-5, atol=1e-5)
    state, own = module.state_dict(), emitted.state_dict()
    assert set(own) <= set(state)
    assert all(torch.equal(own[key], state[key]) for key in own)
    assert {key for key, _ in module.named_parameters()} == {key for key, _ in emitted.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "vgg_bn", "cifar_resnet_a", "lstm1"])
def test_a_step_of_training_is_the_modules(name: str) -> None:
    """Gradients, and running statistics; batch normalization gives in training what the module's gives."""
    module, emitted, inputs = pair(name)
    for each in module.modules():
        if isinstance(each, nn.Dropout):
            each.p = 0.0
    for node in emitted.graph_module.graph.nodes:
        if node.target is torch.ops.aten.dropout.default:
            node.update_arg(1, 0.0)
    emitted.graph_module.recompile()
    results = []
    for each in (module, emitted):
        each.train()
        outputs = each(inputs)
        outputs.square().mean().backward()
        gradients = {key: parameter.grad for key, parameter in each.named_parameters()}
        results.append((outputs.detach(), gradients, dict(each.named_buffers())))
    (one, slopes, buffers), (other, others, own) = results
    assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
    assert all(torch.allclose(slopes[key], others[key], rtol=1e-3, atol=1e-5) for key in slopes)  # type: ignore[arg-type]
    assert all(torch.allclose(buffers[key], own[key], rtol=1e-4, atol=1e-6) for key in own if "num_batches" not in key)
    with torch.no_grad():
        assert torch.allclose(emitted.eval()(inputs), module.eval()(inputs), rtol=1e-4, atol=1e-5)


def test_dropout_works_in_training_alone_and_batch_statistics_always() -> None:
    torch.manual_seed(0)
    module = Dropped().eval()
    inputs = torch.randn(6, 2, 8, 8)
    emitted = Emitted(Network(module, inputs[:4]).captured.graph)
    assert torch.allclose(emitted.eval()(inputs), module(inputs), atol=1e-6)
    assert torch.equal(emitted(inputs), emitted(inputs))
    emitted.train()
    assert emitted.training
    assert not torch.equal(emitted(inputs), emitted(inputs))
    twice = Emitted(emitted.graph_module)  # what was being trained when it was made goes on
    assert not torch.equal(twice(inputs), twice(inputs))
    emitted.eval()
    assert torch.equal(emitted(inputs), emitted(inputs))
    assert torch.allclose(emitted(inputs), module(inputs), atol=1e-6)


@pytest.mark.slow
def test_it_becomes_a_smaller_graph_with_the_same_parameters() -> None:
    """As objects, so that an optimizer goes on; gradients are dropped."""
    module, emitted, inputs = pair("vgg_bn")
    network = Network(module, inputs[:4])
    keep = {group.prime: np.arange(group.size) % 2 == 0 for group in network.groups}
    smaller = network.without(keep)
    before = dict(emitted.named_parameters())
    emitted.train()
    emitted(inputs).sum().backward()
    emitted.eval()
    emitted.become(smaller)
    after = dict(emitted.named_parameters())
    assert all(after[key] is parameter for key, parameter in before.items())
    assert all(parameter.grad is None for parameter in after.values())
    assert sum(parameter.numel() for parameter in after.values()) == sum(each.numel() for each in smaller.parameters())
    with torch.no_grad():
        assert torch.equal(emitted(inputs), smaller(inputs))
    assert not emitted.training
    emitted.train()
    assert emitted(inputs).requires_grad


@pytest.mark.parametrize("name", ["vgg_bn", "tied_embeddings"])
def test_copies_and_files(name: str) -> None:
    _, emitted, inputs = pair(name)
    emitted.eval()
    other = copy.deepcopy(emitted)
    file = io.BytesIO()
    torch.save(emitted.state_dict(), file)
    file.seek(0)
    with torch.no_grad():
        expected = emitted(inputs)
        assert torch.equal(other(inputs), expected)
        for parameter in other.parameters():
            parameter.mul_(0.5)
        assert torch.equal(emitted(inputs), expected)
        assert not torch.equal(other(inputs), expected)
        other.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(other(inputs), expected)


class Forked(nn.Module):
    """Gives several things under names, in nested containers; sizes are computed; dropout has to be switched."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> dict[str, Any]:
        hidden = F.dropout(self.a(inputs), 0.5, self.training).view(inputs.shape[0], 6)
        scaled = hidden * torch.tensor([1.0, 2.0, 1.0, 2.0, 1.0, 2.0])
        return {"outputs": self.b(scaled), "more": [(inputs, 3.0), None]}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["torch", "pickle", "copy"])
def test_a_module_that_was_saved_whole_is_there_again(way: str) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(6, 5)
    emitted = Emitted(Network(Forked().eval(), inputs[:4]).captured.graph).train()
    if way == "torch":
        file = io.BytesIO()
        torch.save(emitted, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    else:
        other = pickle.loads(pickle.dumps(emitted)) if way == "pickle" else copy.deepcopy(emitted)
    assert other.training
    assert not torch.equal(other(inputs)["outputs"], other(inputs)["outputs"])
    expected, outputs = emitted.eval()(inputs), other.eval()(inputs)
    assert torch.equal(outputs["outputs"], expected["outputs"])
    assert torch.equal(outputs["more"][0][0], expected["more"][0][0])
    assert (outputs["more"][0][1], outputs["more"][1]) == (3.0, None)
    assert list(other.state_dict()) == list(emitted.state_dict())
    other(inputs)["outputs"].sum().backward()
    assert all(parameter.grad is not None for parameter in other.parameters())
    other.double()  # exchanges the buffers
    assert other(inputs.double())["outputs"].dtype == torch.float64
    again = Network(other.float(), inputs[:4])
    assert [(group.name, group.size) for group in again.groups] == [("a", 6)]


class Laid(nn.Module):
    """Says how its tensors lie in memory, as parametrizations do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 6, 3), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 2, 8, 8) -> (B, 3)."""
        maps = torch.relu(self.conv(images)).to(memory_format=torch.channels_last)
        turned = maps.transpose(2, 3).clone(memory_format=torch.contiguous_format)
        return self.head((turned + torch.zeros_like(turned, memory_format=torch.preserve_format)).mean((2, 3)))


def test_a_module_whose_code_says_how_tensors_lie_in_memory_is_saved_whole() -> None:
    torch.manual_seed(0)
    inputs, file = torch.randn(5, 2, 8, 8), io.BytesIO()
    emitted = Emitted(Network(Laid().eval(), inputs[:4]).captured.graph)
    formats = {str(value) for node in emitted.graph_module.graph.nodes for value in node.kwargs.values()}
    assert "torch.contiguous_format" in formats
    torch.save(emitted, file)
    file.seek(0)
    other = torch.load(file, weights_only=False)
    assert torch.equal(other(inputs), emitted(inputs))
