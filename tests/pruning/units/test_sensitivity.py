"""What cutting one group alone does, against the slow way: the smaller graph, its layers fitted, all of it run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from torch import Tensor, fx, nn

from modelopt_cli.models.graph.analysis import attribute
from modelopt_cli.models.graph.axes import kept
from modelopt_cli.models.graph.groups import Group
from modelopt_cli.models.graph.network import Network
from modelopt_cli.models.graph.walk import run_node
from modelopt_cli.pruning.allocations import SensitivityProbe
from modelopt_cli.pruning.allocations.divergence import Divergence
from modelopt_cli.pruning.common.cuts import Cut, lowest
from modelopt_cli.pruning.common.distances import apart, distance_for, divergence, relative_error
from modelopt_cli.pruning.common.moments import Moments
from modelopt_cli.pruning.units import sensitivity
from modelopt_cli.pruning.units.consumers import consumers_are_known, measure
from modelopt_cli.pruning.units.pruner import UnitPruner
from modelopt_cli.pruning.units.sensitivity import OutputErrors, UnitSensitivityProbe
from tests.support import zoo as ZOO
from tests.support.unit_cases import batches, compensation, copies, inputs_of, network_of, outputs, pruner, tensors_of

KNOWN = [("mlp", "0"), ("cnn", "0"), ("cnn", "3"), ("shortcut A", "stem"), ("shortcut B", "stem")]
KNOWN += [("shortcut B", "blocks.1.conv1"), ("attention", "wide"), ("addmm", "wide"), ("attention", "value")]


def stays_of(size: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).permutation(size) >= size // 2)


def fast(network: Network, given: Sequence[Tensor], name: str) -> OutputErrors:
    consumers = measure(network.current(), network.analysis, network.groups, network.held, given, 64)
    return OutputErrors(network.current(), consumers, given, compensation(name), divergence)


def slow(network: Network, group: Group, stays: Tensor, given: Sequence[Tensor], name: str) -> float:
    """The graph without the units; the layers that took them fitted to moments of what the whole one gives them."""
    whole, keep = network.current(), {group.prime: stays.numpy()}
    graph = network.without(keep)
    for each in measure(whole, network.analysis, [group], {}, given, 64)[group.name]:
        left = torch.ones(len(each.mean), dtype=torch.bool)
        left[each.columns[~stays].flatten()] = False
        gram, mean, layer = each.gram, each.mean, each.layer
        moments = Moments(left, mean, mean[left], gram, gram[left][:, left], gram[:, left], layer.takes_bias)
        dims = network.analysis.tensors[layer.weight]
        made = kept(dims[1] if layer.node.target is torch.ops.aten.addmm.default else dims[0], keep)
        fitted = compensation(name).refit(layer.matrix(whole)[torch.from_numpy(made)], moments)
        layer.set_matrix(graph, fitted.weight)
        if fitted.bias is not None and layer.takes_bias:
            layer.add_to_bias(graph, fitted.bias)
    return apart([outputs(whole, x) for x in given], [outputs(graph, x) for x in given], divergence)


@pytest.mark.slow
@pytest.mark.parametrize(("net", "which"), KNOWN)
def test_a_cut_on_trial_is_a_cut(net: str, which: str) -> None:
    """In-place ReLU, shortcuts, batch normalization without a bias, several takers; again and again."""
    network, given = network_of(net), list(inputs_of(net, 40).split(25))
    group = network.grouping.named(which)
    assert consumers_are_known(network.current(), network.analysis, group)
    for name in ("none", "bias", "least_squares", "obs"):
        errors = fast(network, given, name)
        for seed in (0, 1, 0):
            stays = stays_of(group.size, seed)
            expected = slow(network, group, stays, given, name)
            assert errors.of(which, stays) == pytest.approx(expected, rel=1e-3, abs=1e-6), name
            assert expected > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("which", ["0", "3"])
def test_of_what_is_left_the_rest_is_tried(which: str) -> None:
    """A network that has shrunk, and one that was captured when it was that small, tell the same."""
    network, inputs = network_of("cnn"), inputs_of("cnn", 30)
    first = network.groups[0]
    held = {first.prime: np.array([1, 0, 1, 1, 0, 1, 1, 1], bool)}
    smaller = Network(network.without(held), inputs[:4])
    group = smaller.grouping.named(which)
    stays = stays_of(group.size)
    expected = slow(smaller, group, stays, [inputs], "least_squares")
    graph = network.without(held)
    consumers = measure(graph, network.analysis, network.groups, held, [inputs], 64)
    measured = OutputErrors(graph, consumers, [inputs], compensation("least_squares"), divergence).of(which, stays)
    assert measured == pytest.approx(expected, rel=1e-3)


def test_nothing_is_changed_and_groups_may_take_turns() -> None:
    network, given = network_of("cnn"), [inputs_of("cnn", 30)]
    graph = network.current()
    before, inputs = copies(tensors_of(graph)), given[0].clone()
    consumers = measure(graph, network.analysis, network.groups, {}, given, 64)
    errors = OutputErrors(graph, consumers, given, compensation("least_squares"), divergence)
    stays = {group.name: stays_of(group.size) for group in network.groups}
    measured = [errors.of(name, stays[name]) for name in ("0", "3", "0", "3")]
    assert measured[:2] == measured[2:]
    assert all(torch.equal(tensor, before[key]) for key, tensor in tensors_of(graph).items())
    assert torch.equal(given[0], inputs)
    assert errors.of("0", torch.ones(8, dtype=torch.bool)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("net", ["cnn", "shortcut A", "aliased"])
def test_what_is_kept_between_cuts_changes_nothing_but_passes(net: str) -> None:
    """All of it, none of it, and as much as there is room for; groups in any order."""
    network, given = (network_of(net), [inputs_of(net, 30)]) if net != "aliased" else aliased()
    consumers = measure(network.current(), network.analysis, network.groups, {}, given, 64)
    names = [name for name, own in consumers.items() if own]
    macs = network.costs.macs_of({})
    stays = {group.name: stays_of(group.size) for group in network.groups}
    order = [*names, *reversed(names), *names[1:], names[0]]
    passes, errors = [], []
    for kept_bytes in (2**30, 20_000, 0):
        fast = OutputErrors(
            network.current(), consumers, given, compensation("none"), divergence, macs, kept_bytes=kept_bytes
        )
        errors.append([fast.of(name, stays[name]) for name in order])
        passes.append(fast.passes)
    assert errors[0] == errors[1] == errors[2]
    assert len(set(errors[0])) == len(names)
    assert passes[0] <= passes[1] <= passes[2]
    assert len(names) < 2 or passes[0] < passes[2]


class Aliased(nn.Module):
    """What is added in place is a view of what the first layer takes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Linear(6, 8), nn.Linear(8, 4)
        self.head = nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 6) -> (B, 4)."""
        hidden = torch.tanh(self.stem(inputs))
        inner = self.inner(hidden)
        part = hidden[:, :4]
        part += inner
        return self.head(hidden)


def aliased() -> tuple[Network, list[Tensor]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = ZOO.prepare(Aliased())
    given = [inputs_of("mlp", 30)]
    return Network(module, given[0][:4]), given


def test_what_is_written_through_a_view_is_undone() -> None:
    network, given = aliased()
    assert network.groups
    for group in network.groups:
        stays = stays_of(group.size)
        errors = fast(network, given, "none")
        measured = [errors.of(group.name, stays) for _ in range(3)]
        assert measured[0] == measured[1] == measured[2]
        assert measured[0] == pytest.approx(slow(network, group, stays, given, "none"), rel=1e-3, abs=1e-6)


# What layers lose, and what it costs to know more


@pytest.mark.parametrize("name", ["none", "bias", "least_squares"])
def test_what_a_layer_loses_is_what_its_outputs_lose(name: str) -> None:
    """Against the layer itself on all samples, with and without the units: the variance that is not explained."""
    network, given = network_of("mlp"), [inputs_of("mlp", 40)]
    group, stays = network.grouping.named("0"), stays_of(12)
    graph = network.current()
    [consumer] = measure(graph, network.analysis, [group], {}, given, 64)["0"]
    weight, bias = consumer.matrix.double(), attribute(graph, "2.bias").detach().double()
    before = torch.relu(nn.functional.linear(given[0], attribute(graph, "0.weight"), attribute(graph, "0.bias")))
    inputs = before.detach().double()  # (40, 12)
    mean, gram = inputs.mean(0), inputs.T @ inputs / 40
    moments = Moments(stays, mean, mean[stays], gram, gram[stays][:, stays], gram[:, stays], True)
    fitted = compensation(name).refit(weight, moments)
    was, now = inputs @ weight.T + bias, inputs[:, stays] @ fitted.weight.double().T + bias
    now = now if fitted.bias is None else now + fitted.bias
    lost = (was - now).square().mean(0).sum() / was.var(0, correction=0).sum()
    expected = -math.log(1.0 - float(lost)) if lost < 0.99 else -math.log(0.01) + float(lost) - 0.99
    assert fast(network, given, name).lost("0", stays) == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("net", ["cnn", "shortcut B", "attention"])
def test_passes_are_those_that_are_made(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted where nodes are run; what lies before a cut is computed once for all groups, whatever their order."""
    made, probe, scores = probe_of(net)
    macs = made.network.costs.macs_of({})
    ran: list[str] = []

    def counting(graph: fx.GraphModule, node: fx.Node, own: Any, batches: Any) -> list[Any]:
        ran.append(node.name)
        return run_node(graph, node, own, batches)

    monkeypatch.setattr(sensitivity, "run_node", counting)
    known = [
        group.name
        for group in made.groups
        if not group.shifts and consumers_are_known(made.network.current(), made.network.analysis, group)
    ]
    errors = probe.output_errors({name: [lowest(scores[name], 2)] for name in reversed(known)})
    assert probe.passes == pytest.approx(sum(macs.get(name, 0) for name in ran) / sum(macs.values()))
    assert probe.passes == pytest.approx(
        1.0 + sum(probe.cost(name) for name in known)
    )  # what there was, and what is cut
    again = probe_of(net)[1]
    assert errors == {name: [pytest.approx(again.output_error(name, lowest(scores[name], 2)))] for name in known}


def test_a_smaller_graph_counts_as_what_is_left_of_it() -> None:
    _, probe, scores = probe_of("lstm")
    probe.output_error("embed", lowest(scores["embed"], scores["embed"].numel() // 2))
    assert 0.3 < probe.passes < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("net", ["cnn", "shortcut B", "attention", "lstm"])
@pytest.mark.parametrize("amount", [0.3, 0.6])
def test_a_few_cuts_tell_as_much_as_all(net: str, amount: float) -> None:
    """The sum of errors at what is chosen, with every level tried afterwards, beside what a full table chooses."""
    made, probe, scores = probe_of(net)
    plain = Divergence().cuts(scores, amount, probe)
    tried = len(made.sensitivity)
    for name, score in scores.items():
        for step in range(1, min(16, score.numel())):
            probe.output_error(name, lowest(score, round(score.numel() * step / min(16, score.numel()))))
    curves = {name: {0: 0.0, **probe.known_errors(name)} for name in scores}
    full = Divergence().cuts(scores, amount, Known(scores, curves))

    def total(cuts: Mapping[str, Cut]) -> float:
        return sum(
            float(np.interp(cuts[name].count(score), sorted(curves[name]), sorted(curves[name].values())))
            for name, score in scores.items()
        )

    assert tried <= (len(made.sensitivity)) / 4
    assert total(plain) <= 1.5 * total(full)


class Known(SensitivityProbe):
    """Errors that are known at all levels; of the shape nothing is."""

    def __init__(self, scores: Mapping[str, Tensor], curves: Mapping[str, Mapping[int, float]]) -> None:
        self._scores, self._curves = scores, curves

    def loss(self, name: str, cut: Cut) -> float:
        raise AssertionError

    def output_error(self, name: str, cut: Cut) -> float:
        return self._curves[name][cut.count(self._scores[name])]


# Where it is asked for


def probe_of(net: str, *, shift: bool = False) -> tuple[UnitPruner, UnitSensitivityProbe, dict[str, Tensor]]:
    """(the pruner of a network, its probe, the scores that the probe cuts)."""
    network, given = network_of(net), batches(inputs_of(net, 40))
    made = pruner(network, given, network.groups if shift else None, amount=0.5, allocation="divergence")
    scores = made.scores(given)
    return made, made.probe(given, scores), scores


def whole_way(network: Network, inputs: Tensor, group: Group, stays: Tensor) -> float:
    graph = network.without({group.prime: stays.numpy()})
    return divergence(outputs(network.captured.graph, inputs), outputs(graph, inputs))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "which", "shift"),
    [("lstm", "embed", False), ("attention", "query#2", False), ("attention", "embed", True), ("mlp", "0", False)],
    ids=["recurrent layer", "attention's products", "statistics", "linear layer"],
)
def test_what_cannot_be_tried_fast_is_tried_whole(net: str, which: str, shift: bool) -> None:
    """Units of an LSTM, of a product of values, of a layer norm's statistics: the smaller graph itself is run."""
    made, probe, scores = probe_of(net, shift=shift)
    network, inputs = made.network, inputs_of(net, 40)
    group = network.grouping.named(which)
    cut = lowest(scores[which], group.size // 2)
    expected = whole_way(network, inputs, group, ~cut.removes(scores[which]))
    assert probe.output_error(which, cut) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_columns_of_zero_are_not_the_whole_of_a_norms_units() -> None:
    """Negative control of the statistics: silent inputs of all layers leave the norm as it was."""
    network, inputs = network_of("attention"), inputs_of("attention", 40)
    group = network.grouping.named("embed")
    stays = stays_of(group.size)
    measured = fast(network, [inputs], "none").of("embed", stays)
    assert measured != pytest.approx(whole_way(network, inputs, group, stays), rel=1e-2)


def test_the_loss_is_that_of_the_smaller_graph() -> None:
    made, probe, scores = probe_of("cnn")
    network, inputs = made.network, inputs_of("cnn", 40)
    cut = lowest(scores["0"], 3)
    graph = network.without({network.groups[0].prime: (~cut.removes(scores["0"])).numpy()})
    expected = nn.functional.cross_entropy(outputs(graph, inputs), batches(inputs)[0].targets)
    assert probe.loss("0", cut) == pytest.approx(float(expected), rel=1e-5)


def test_the_same_cut_is_tried_once_and_all_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    made, probe, scores = probe_of("mlp")
    runs = []
    original: Callable[..., float] = OutputErrors.of

    def counted(self: OutputErrors, group: str, stays: Tensor) -> float:
        runs.append(group)
        return original(self, group, stays)

    monkeypatch.setattr(OutputErrors, "of", counted)
    cut = lowest(scores["0"], 3)
    assert probe.output_error("0", cut) == probe.output_error("0", cut)
    probe.output_error("0", lowest(scores["0"], 6))
    assert len(runs) == 2
    assert [row[:2] for row in made.sensitivity] == [("0", 0.25), ("0", 0.5)]


# Distances


@pytest.mark.parametrize("seed", range(3))
def test_divergence_is_kullback_and_leiblers(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    before, now = (3.0 * torch.randn(20, 7, generator=generator) for _ in range(2))
    p, q = (softmax(each.double().numpy(), axis=1) for each in (before, now))
    assert divergence(before, now) == pytest.approx(float(rel_entr(p, q).sum(1).mean()), rel=1e-5)
    assert divergence(before, before) == pytest.approx(0.0, abs=1e-6)
    assert divergence(before, before + 5.0) == pytest.approx(0.0, abs=1e-5)  # the same probabilities
    assert divergence(before, now) != pytest.approx(divergence(now, before), rel=1e-3)


def test_relative_error_and_means_over_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    before, now = (torch.randn(20, 3, generator=generator) for _ in range(2))
    error = float((now - before).square().mean() / before.var())
    assert relative_error(before, now) == pytest.approx(error)
    assert relative_error(100.0 * before, 100.0 * now) == pytest.approx(error, rel=1e-5)
    distance = apart([before[:5], before[5:]], [now[:5], now[5:]], divergence)
    assert distance == pytest.approx(divergence(before, now), rel=1e-5)
    assert distance_for("classification") is divergence
    assert distance_for("regression") is relative_error
