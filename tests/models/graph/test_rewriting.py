"""Taking units out of a captured graph: what is shared and what is new, in rounds, tied, with computed sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from modelopt_cli.models.graph.analysis import Analysis
from modelopt_cli.models.graph.axes import Mask, Prime
from modelopt_cli.models.graph.capture import capture
from modelopt_cli.models.graph.groups import Place, coverage, grouping, matches
from modelopt_cli.models.graph.network import Network
from modelopt_cli.models.graph.rewriting import error, first_tensor, rewritten, silenced, slices
from tests.support import zoo as ZOO
from tests.support.in_place_cases import random


def network(name: str, batch: int = 3) -> Network:
    torch.manual_seed(0)
    return Network(ZOO.make(name), ZOO.ZOO[name].inputs(batch))


def dropped(net: Network, **units_of: list[int]) -> dict[Prime, Mask]:
    """Without these units of these groups; `_` in a name stands for a dot."""
    groups = {group.name.replace(".", "_"): group for group in net.groups}
    return {groups[name].prime: ~np.isin(np.arange(groups[name].size), units) for name, units in units_of.items()}


def test_the_graph_is_left_alone_and_shares_what_stays() -> None:
    net = network("vgg_bn")
    graph, analysis = net.captured.graph, net.analysis
    text, state = str(graph.graph), {name: value.clone() for name, value in graph.state_dict().items()}
    new = rewritten(graph, analysis, dropped(net, **{"0": [1, 2, 5]}))
    assert str(graph.graph) == text
    assert all(torch.equal(value, state[name]) for name, value in graph.state_dict().items())
    before, after = dict(graph.named_parameters()), dict(new.named_parameters())
    shrunk = {name for name in before if before[name].shape != after[name].shape}
    assert shrunk == {"0.weight", "0.bias", "1.weight", "1.bias", "3.weight"}
    assert all(after[name] is before[name] for name in before if name not in shrunk)
    assert after["0.weight"].shape == (13, 3, 3, 3)
    assert isinstance(after["0.weight"], nn.Parameter)
    assert torch.equal(after["3.weight"], before["3.weight"][:, [0, 3, 4, *range(6, 16)]])
    assert dict(new.named_buffers())["1.running_mean"].shape == (13,)


@pytest.mark.slow
def test_what_is_rewritten_can_be_trained() -> None:
    net = network("mobilenet_v2")
    keep = {group.prime: np.arange(group.size) % 2 == 0 for group in net.groups}
    new = rewritten(net.captured.graph, net.analysis, keep)
    optimizer = torch.optim.SGD(new.parameters(), lr=0.01)
    before = [parameter.detach().clone() for parameter in new.parameters()]
    new(ZOO.ZOO["mobilenet_v2"].inputs(4)).square().sum().backward()
    optimizer.step()
    assert all(not torch.equal(old, now) for old, now in zip(before, new.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar_resnet_a", "densenet", "gpt2", "lstm1", "vit"])
def test_rounds_add_up(name: str) -> None:
    needs = ZOO.ZOO[name].needs
    if needs:
        pytest.importorskip(needs)
    net = network(name)
    graph, analysis = net.captured.graph, net.analysis
    first = {group.prime: np.arange(group.size) % 4 != 1 for group in net.groups}
    both = {group.prime: np.arange(group.size) % 4 < 2 - (group.size > 2) for group in net.groups}
    both = {prime: mask & first[prime] for prime, mask in both.items()}
    inputs = ZOO.ZOO[name].inputs(4)
    once = rewritten(graph, analysis, both)
    expected = once(inputs)
    half = rewritten(graph, analysis, first)
    for tensor_name in analysis.tensors:
        from modelopt_cli.models.graph.analysis import attribute
        from modelopt_cli.models.graph.rewriting import set_tensor

        set_tensor(graph, tensor_name, attribute(half, tensor_name))
    assert torch.equal(rewritten(graph, analysis, first, first)(inputs), half(inputs))
    assert torch.equal(rewritten(graph, analysis, both, first)(inputs), expected)
    exact = {group.prime: both[group.prime] if not group.shifts else first[group.prime] for group in net.groups}
    assert error(graph, analysis, exact, inputs, first) <= 1e-5


def test_tied_tensors_stay_tied() -> None:
    net = network("tied_embeddings")
    (group,) = [each for each in net.groups if any(place.tensor == "embedding.weight" for place in each.places)]
    assert [place.tensor for place in group.places].count("embedding.weight") == 1
    new = rewritten(net.captured.graph, net.analysis, {group.prime: np.arange(24) < 12})
    parameters = dict(new.named_parameters(remove_duplicate=False))
    assert parameters["head.weight"] is parameters["embedding.weight"]
    assert set(slices(net.analysis, {group.prime: np.arange(24) < 12})) >= {"head.weight", "embedding.weight"}


class Recorded(fx.Interpreter):
    """Keeps what each linear layer is given: (inputs, weight, bias)."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.given: list[list[Tensor]] = []

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target is torch.ops.aten.linear.default:
            self.given.append(list(args))
        return super().call_function(target, args, kwargs)


def test_silenced_units_are_zero_on_both_sides() -> None:
    """Where weights are multiplied with something: parameters stay, as something else may look at them."""
    net = network("mlp")
    quiet = silenced(net.captured.graph, net.analysis, dropped(net, **{"0": [3]}))
    recorded = Recorded(quiet)
    recorded.run(random(4, 20))
    (_, weight, bias), (_, later, _) = recorded.given[:2]
    assert not weight[3].any()
    assert not bias[3].any()
    assert not later[:, 3].any()
    assert weight[2].all()
    assert all(parameter.all() for parameter in quiet.parameters())


def test_weight_norm_is_silenced_by_its_length() -> None:
    """A direction of zeros would be divided by its norm."""
    net = network("weight_norm")
    quiet = silenced(net.captured.graph, net.analysis, dropped(net, conv2=[0, 5]))
    assert torch.isfinite(quiet(random(2, 3, 8, 8))).all()


def test_what_is_not_finite_is_no_agreement() -> None:
    net = network("mlp")
    with torch.no_grad():
        dict(net.captured.graph.named_parameters())["0.bias"].fill_(float("nan"))
    assert error(net.captured.graph, net.analysis, dropped(net, **{"0": [3]}), random(4, 20)) == float("inf")


def test_outputs_are_found_where_models_put_them() -> None:
    tensor = torch.ones(2)
    assert first_tensor(tensor) is tensor
    assert first_tensor((None, [tensor, 3])) is tensor
    assert first_tensor({"loss": None, "logits": tensor}) is tensor


class Folded(nn.Module):
    """Batch size x heads in one dimension, and a size for torch to infer in another."""

    def __init__(self, inferred: bool) -> None:
        super().__init__()
        self.inferred = inferred
        self.a, self.b = nn.Linear(5, 12), nn.Linear(12, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        batch, positions, _ = inputs.shape
        heads = self.a(inputs).view(batch, positions, 4, 3).transpose(1, 2)
        folded = heads.reshape(batch * 4, -1 if self.inferred else positions, 3)
        mixed = torch.bmm(torch.bmm(folded, folded.mT).softmax(-1), folded)
        return self.b(mixed.view(batch, 4, positions, 3).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("inferred", [True, False])
def test_sizes_that_are_computed_are_inferred(inferred: bool) -> None:
    torch.manual_seed(0)
    graph = capture(Folded(inferred).double().eval(), torch.randn(3, 7, 5, dtype=torch.float64)).graph
    analysis = Analysis(graph)
    heads, width = grouping(graph, analysis).groups
    assert (heads.size, width.size) == (4, 3)
    keep = {heads.prime: np.arange(4) != 1, width.prime: np.arange(3) != 0}
    assert error(graph, analysis, keep, torch.randn(5, 7, 5, dtype=torch.float64)) <= 1e-10


class TwiceComputed(nn.Module):
    """Two sizes of a reshape are computed from the batch size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        batch = inputs.shape[0]
        hidden = self.a(inputs)  # (B, 6)
        pairs = hidden[:, None] * hidden[None]  # (B, B, 6)
        return self.b(pairs.transpose(0, 2).reshape(6 * batch, batch).view(6, batch, batch).transpose(0, 2)).sum(1)


@pytest.mark.slow
def test_a_size_that_is_computed_is_inferred() -> None:
    torch.manual_seed(0)
    graph = capture(TwiceComputed().eval(), torch.randn(3, 5)).graph
    analysis = Analysis(graph)
    (group,) = grouping(graph, analysis).groups
    smaller = rewritten(graph, analysis, {group.prime: np.arange(6) < 4})
    assert smaller(torch.randn(3, 5)).shape == (3, 3)
    node = next(node for node in graph.graph.nodes if "reshape" in str(node.target))
    node.args = (node.args[0], [node.args[1][0], -1])
    node.meta["val"] = torch.empty(18, 3, device="meta")
    assert rewritten(graph, analysis, {group.prime: np.arange(6) < 4})(torch.randn(3, 5)).shape == (3, 3)


@pytest.mark.slow
def test_names_globs_and_coverage() -> None:
    net = network("shared_module")
    names = {group.name for group in net.groups}
    assert names == {"embed", "block.0", "left", "right"}
    embed = net.grouping.named("embed")
    assert matches(embed, ["emb*"])
    assert matches(embed, ["repeated"])
    assert matches(embed, ["block.2.weight"])
    assert not matches(embed, ["left"])
    assert Place("repeated.weight", 0, True) in embed.places
    assert Place("repeated.weight", 1, False) in embed.places
    with pytest.raises(KeyError):
        net.grouping.named("nothing")
    graph, analysis = net.captured.graph, net.analysis
    share, reasons = coverage(graph, analysis, net.grouping, [net.grouping.named("left")])
    assert 0 < share < 1
    assert any("not asked for" in reason for reason in reasons)
    whole, rest = coverage(graph, analysis, net.grouping, net.groups, ["head.*"])
    assert (whole, dict(rest)) == (1.0, {})


def test_attention_keeps_its_scale_when_heads_become_narrow() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = self.a(inputs)
            return self.b(F.scaled_dot_product_attention(hidden, hidden, hidden))

    torch.manual_seed(0)
    graph = capture(Attention().double().eval(), torch.randn(3, 4, 5, dtype=torch.float64)).graph
    analysis = Analysis(graph)
    (group,) = grouping(graph, analysis).groups
    assert error(graph, analysis, {group.prime: np.arange(8) < 3}, torch.randn(2, 4, 5, dtype=torch.float64)) <= 1e-10
