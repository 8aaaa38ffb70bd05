"""What is collected of units, against the original module watched by hooks, one sample at a time."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from modelopt_cli.models.graph.analysis import Analysis
from modelopt_cli.models.graph.axes import Prime
from modelopt_cli.models.graph.capture import capture
from modelopt_cli.models.graph.groups import Group, grouping
from modelopt_cli.models.graph.rewriting import rewritten
from modelopt_cli.pruning.common.units import UnitStatistic
from modelopt_cli.pruning.units import collection as unit_collection
from modelopt_cli.pruning.units.collection import collect_units, make_units
from modelopt_cli.pruning.units.points import activity_points
from modelopt_cli.training.batches import Batch

STATISTICS: tuple[UnitStatistic, ...] = get_args(UnitStatistic)
ALL = frozenset(STATISTICS)
SEEN = ALL - {"hessian_trace"}


# Networks, each (B, ...) -> (B, 3)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def conv_net() -> nn.Module:
    first = [nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()]
    second = [nn.Conv2d(6, 4, 3), nn.ReLU(), nn.MaxPool2d(2)]  # (B, 4, 2, 3)
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(24, 3))


class Attention(nn.Module):
    """Pre-norm attention with a shortcut; heads of width 3, two of them."""

    def __init__(self, windows: int = 1) -> None:
        super().__init__()
        self.windows = windows
        self.embed = nn.Linear(5, 8)
        self.norm = nn.LayerNorm(8)
        self.query, self.key, self.value = (nn.Linear(8, 6) for _ in range(3))
        self.out = nn.Linear(6, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 4, 5) -> (B, 3)."""
        hidden = torch.tanh(self.embed(inputs))
        batch, positions, width = hidden.shape
        within = self.norm(hidden).view(batch * self.windows, positions // self.windows, width)
        rows, count, _ = within.shape
        query, key, value = (
            layer(within).view(rows, count, 2, 3).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(rows, count, 6)
        return self.head((hidden + self.out(mixed).view(batch, positions, width)).mean(1))


class EagerAttention(Attention):
    """The same, written as products."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 4, 5) -> (B, 3)."""
        hidden = torch.tanh(self.embed(inputs))
        within = self.norm(hidden)
        query, key, value = (
            layer(within).unflatten(-1, (2, 3)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        shares = (query @ key.transpose(-1, -2) / 3**0.5).softmax(-1)
        return self.head((hidden + self.out((shares @ value).transpose(1, 2).flatten(2))).mean(1))


class HeadsFirst(Attention):
    """The same, with (heads * B) rows of its products."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 4, 5) -> (B, 3)."""
        hidden = torch.tanh(self.embed(inputs))
        within = self.norm(hidden)
        query, key, value = (
            layer(within).unflatten(-1, (2, 3)).permute(2, 0, 1, 3).flatten(0, 1)
            for layer in (self.query, self.key, self.value)
        )
        shares = (torch.bmm(query, key.transpose(1, 2)) / 3**0.5).softmax(-1)
        mixed = torch.bmm(shares, value).unflatten(0, (2, -1)).permute(1, 2, 0, 3).flatten(2)
        return self.head((hidden + self.out(mixed)).mean(1))


class Residual(nn.Module):
    """The stem's units are taken by two layers at once, and after a shortcut again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.stem = nn.Linear(4, 5), nn.Linear(5, 6)
        self.left, self.right = nn.Linear(6, 7), nn.Linear(6, 7)
        self.back = nn.Linear(7, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 4) -> (B, 3)."""
        hidden = torch.relu(self.stem(torch.tanh(self.first(inputs))))
        hidden = hidden + self.back(torch.relu(self.left(hidden)) * torch.sigmoid(self.right(hidden)))
        return self.head(torch.tanh(hidden))


class Turned(nn.Module):
    """Samples in the second dimension, and an LSTM's last state."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 6)
        self.recurrent = nn.LSTM(6, 4)
        self.middle = nn.Linear(4, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 4, 5) -> (B, 3)."""
        _, (last, _) = self.recurrent(torch.tanh(self.embed(inputs.transpose(0, 1))))
        return self.head(torch.relu(self.middle(last[-1])))


class Restacked(nn.Module):
    """Samples are taken apart and put together again, so that there is no telling which is which."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.middle, self.head = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 4) -> (B, 3)."""
        hidden = torch.tanh(self.embed(inputs))
        return self.head(torch.relu(self.middle(torch.cat([hidden[:1], hidden[1:]]))))


class Bias(nn.Module):
    """A small network of constants makes a bias: no input has a part in its hidden units."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("places", torch.linspace(-1.0, 1.0, 10).view(5, 2))
        self.hidden, self.out = nn.Linear(2, 6), nn.Linear(6, 1)
        self.stem, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 4) -> (B, 3)."""
        bias = self.out(torch.relu(self.hidden(self.places))).squeeze(-1)  # (5,)
        return self.head(torch.tanh(self.stem(inputs) + bias))


# What hooks on the module see


@dataclass(frozen=True)
class Consumer:
    """A layer that takes units; its input at `dim`, or its output, holds unit owner[i] at position i."""

    layer: str
    dim: int
    owner: tuple[int, ...]
    output: bool = False

    def rows(self, value: Tensor) -> Tensor:
        """(n, ...) of a value."""
        owner = torch.tensor(self.owner)
        units = range(int(owner.max()) + 1)
        return torch.stack([value.index_select(self.dim, (owner == unit).nonzero()[:, 0]) for unit in units])


@dataclass(frozen=True)
class Case:
    """A group of a network, the values that its units are taken from, each with the layers that take it."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    place: tuple[str, int]  # a tensor and dimension where the group lies
    size: int
    consumers: tuple[tuple[Consumer, ...], ...]
    map: tuple[int, ...] = ()  # the shape of a unit's map in the first of them, if it is more than a vector


def channels(count: int, times: int = 1) -> tuple[int, ...]:
    return tuple(np.repeat(np.arange(count), times).tolist())


def cycled(count: int, times: int) -> tuple[int, ...]:
    return tuple(np.tile(np.arange(count), times).tolist())


ROW, MAP = (4,), (2, 6, 8)
WORDS = (4, 5)
HEADS = (Consumer("out", -1, channels(2, 3)),)
WIDTH = (Consumer("query", -1, cycled(3, 2), output=True),)
STREAM = ((Consumer("query", -1, channels(8)), Consumer("key", -1, channels(8)), Consumer("value", -1, channels(8))),)
CASES = {
    "linear": Case(mlp, ROW, ("0.weight", 0), 6, ((Consumer("2", 1, channels(6)),),)),
    "linear 2": Case(mlp, ROW, ("2.weight", 0), 5, ((Consumer("4", 1, channels(5)),),)),
    "convolution": Case(conv_net, MAP, ("0.weight", 0), 6, ((Consumer("3", 1, channels(6)),),), (6, 8)),
    "flatten": Case(conv_net, MAP, ("3.weight", 0), 4, ((Consumer("7", 1, channels(4, 6)),),), (2, 3)),
    "two layers": Case(
        Residual,
        ROW,
        ("stem.weight", 0),
        6,
        ((Consumer("left", 1, channels(6)), Consumer("right", 1, channels(6))), (Consumer("head", 1, channels(6)),)),
    ),
    "shortcut": Case(Residual, ROW, ("back.weight", 1), 7, ((Consumer("back", 1, channels(7)),),)),
    "stream": Case(Attention, WORDS, ("embed.weight", 0), 8, (*STREAM, (Consumer("head", 1, channels(8)),))),
    "head": Case(Attention, WORDS, ("out.weight", 1), 2, (HEADS,), (4, 3)),
    "head, eager": Case(EagerAttention, WORDS, ("out.weight", 1), 2, (HEADS,), (4, 3)),
    "windows": Case(
        lambda: Attention(2), WORDS, ("embed.weight", 0), 8, (*STREAM, (Consumer("head", 1, channels(8)),)), (2, 2)
    ),
    "head width": Case(Attention, WORDS, ("query.weight", 0), 3, (WIDTH,), (4, 2)),
    "head width, eager": Case(EagerAttention, WORDS, ("query.weight", 0), 3, (WIDTH,), (4, 2)),
    "heads first": Case(HeadsFirst, WORDS, ("out.weight", 1), 2, (HEADS,), (4, 3)),
    "head width, heads first": Case(HeadsFirst, WORDS, ("query.weight", 0), 3, (WIDTH,), (2, 4)),
    "samples second": Case(Turned, WORDS, ("embed.weight", 0), 6, ((Consumer("recurrent", 2, channels(6)),),)),
    "last state": Case(Turned, WORDS, ("middle.weight", 1), 4, ((Consumer("middle", 1, channels(4)),),)),
    "samples unseen": Case(Restacked, ROW, ("embed.weight", 0), 6, ((Consumer("middle", 1, channels(6)),),)),
    "constant": Case(Bias, ROW, ("hidden.weight", 0), 6, ((Consumer("out", 1, channels(6)),),)),
}


def make(case: Case) -> nn.Module:
    torch.manual_seed(0)
    module = case.build()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape)).mul_(1.5)
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_()  # type: ignore[union-attr]
                layer.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    return module.eval()


def loss(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return F.cross_entropy(outputs, targets)
    return (F.cross_entropy(outputs, targets, reduction="none") * weights).sum() / weights.sum()


def batches(shape: tuple[int, ...], sizes: Sequence[int] = (5, 4, 2), *, weighted: bool = False) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    total = sum(sizes)
    inputs = torch.randn(total, *shape, generator=generator)
    targets = torch.randint(0, 3, (total,), generator=generator)
    weights = 0.1 + torch.rand(total, generator=generator)
    parts = zip(*(each.split(list(sizes)) for each in (inputs, targets, weights)), strict=True)
    return [Batch(x, y, w if weighted else None, torch.arange(len(x))) for x, y, w in parts]


@dataclass(frozen=True)
class Captured:
    graph: torch.fx.GraphModule
    analysis: Analysis
    groups: tuple[Group, ...]
    group: Group

    def prime_of(self, name: str) -> Prime:
        return next(group.prime for group in self.groups if group.name == name)


def captured(module: nn.Module, case: Case) -> Captured:
    graph = capture(module, batches(case.shape, (3,))[0].inputs).graph
    analysis = Analysis(graph)
    groups = grouping(graph, analysis).groups
    tensor, dim = case.place
    matching = [
        group
        for group in groups
        if group.size == case.size and any((place.tensor, place.dim) == (tensor, dim) for place in group.places)
    ]
    return Captured(graph, analysis, groups, matching[0])


def collected(
    network: Captured, given: list[Batch], needs: frozenset[UnitStatistic] = SEEN, **options: Any
) -> dict[UnitStatistic, Tensor]:
    statistics = collect_units(
        network.graph, network.analysis, network.groups, {}, needs, lambda: given, loss, **options
    )
    return statistics[network.group.name]


class Watch:
    """Hooks that multiply what is taken by a gate, and keep it. One sample."""

    def __init__(self, module: nn.Module, case: Case) -> None:
        self.gate = torch.ones(case.size, requires_grad=True)
        self.values: list[list[Tensor]] = [[] for _ in case.consumers]
        self.handles = []
        for place, consumers in enumerate(case.consumers):
            for consumer in consumers:
                layer = module.get_submodule(consumer.layer)
                if consumer.output:
                    self.handles.append(layer.register_forward_hook(self._after(place, consumer)))
                else:
                    self.handles.append(layer.register_forward_pre_hook(self._before(place, consumer)))

    def _gated(self, place: int, consumer: Consumer, value: Tensor) -> Tensor:
        sizes = [1] * value.ndim
        sizes[consumer.dim] = -1
        value = value * self.gate[torch.tensor(consumer.owner)].view(sizes)
        value.retain_grad()
        self.values[place].append(value)
        return value

    def _before(self, place: int, consumer: Consumer) -> Any:
        return lambda layer, given: (self._gated(place, consumer, given[0]), *given[1:])

    def _after(self, place: int, consumer: Consumer) -> Any:
        return lambda layer, given, rows_made: self._gated(place, consumer, rows_made)


def reference(module: nn.Module, case: Case, given: list[Batch]) -> dict[UnitStatistic, Tensor]:
    """All but the trace, from the definitions."""
    gates, shares, slopes = [], [], []
    activities: list[list[Tensor]] = [[] for _ in case.consumers]  # of each value: (n, positions) of each sample
    for batch in given:
        for place, (x, y) in enumerate(zip(batch.inputs, batch.targets, strict=True)):
            watch = Watch(module, case)
            loss(module(x[None]), y[None], None).backward()
            for handle in watch.handles:
                handle.remove()
            assert watch.gate.grad is not None
            gates.append(watch.gate.grad.double())
            shares.append(1.0 if batch.weights is None else float(batch.weights[place]))
            means = []
            for at, consumers in enumerate(case.consumers):
                values = [
                    consumer.rows(value) for consumer, value in zip(consumers, watch.values[at], strict=True)
                ]  # (n, 1, ...)
                grads = [value.grad for value in watch.values[at]]
                given_back = [
                    consumer.rows(each) for consumer, each in zip(consumers, grads, strict=True) if each is not None
                ]
                gradient = torch.stack(given_back).sum(0)
                activities[at].append(values[0].detach().flatten(1).double())
                means.append(gradient.flatten(1).double().abs().mean(1))
            slopes.append(torch.stack(means).mean(0))
    share = torch.tensor(shares, dtype=torch.float64)
    share = share / share.sum()

    def mean(of: Callable[[Tensor], Tensor]) -> Tensor:
        """Over values, and over samples by their shares."""
        each = [sum(s * of(rows) for s, rows in zip(share, some, strict=True)) for some in activities]
        return torch.stack(each).mean(0)

    def variance(some: list[Tensor]) -> Tensor:
        center = sum(s * rows.mean(1) for s, rows in zip(share, some, strict=True))
        each = ((rows - center[:, None]).square().mean(1) for rows in some)
        return sum(s * one for s, one in zip(share, each, strict=True))

    sizes = [case.map, *[()] * len(activities)]
    ranks = torch.stack(
        [
            sum(s * rank(rows.float(), size) for s, rows in zip(share, some, strict=True))
            for some, size in zip(activities, sizes, strict=False)
        ]
    ).mean(0)
    gate = torch.stack(gates)  # (samples, n)
    return {
        "activation_mean": mean(lambda rows: rows.abs().mean(1)),
        "activation_nonzero": mean(lambda rows: (rows != 0).double().mean(1)),
        "activation_variance": torch.stack([variance(some) for some in activities]).mean(0),
        "activation_rank": ranks,
        "activation_gradient": share @ torch.stack(slopes),
        "gate_gradient": share @ gate.abs(),
        "squared_gate_gradient": share @ gate.square(),
    }


def rank(rows: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """(n,) by the singular values of each map."""
    ranks = []
    for row in rows:
        matrix = row.view(sizes) if sizes else row[None]
        values = np.linalg.svd(matrix.numpy(), compute_uv=False)
        ranks.append(float((values > values.max() * max(matrix.shape) * np.finfo(np.float32).eps).sum()))
    return torch.tensor(ranks, dtype=torch.float64)


def close(values: Tensor, expected: Tensor) -> bool:
    return bool(torch.allclose(values, expected.double(), rtol=2e-4, atol=1e-6))


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True], ids=["alike", "weighted"])
@pytest.mark.parametrize("name", CASES)
def test_statistics_are_what_hooks_on_the_module_see(name: str, weighted: bool) -> None:
    case = CASES[name]
    module = make(case)
    given = batches(case.shape, weighted=weighted)
    statistics = collected(captured(module, case), given)
    expected = reference(module, case, given)
    unseen = frozenset({"activation_rank"}) if name == "samples unseen" else frozenset()
    assert statistics.keys() == SEEN - unseen
    alike = {"activation_mean", "activation_variance"} if unseen and weighted else set()  # none to weigh
    for statistic in SEEN - unseen - alike:
        assert statistics[statistic].shape == (case.size,)
        assert close(statistics[statistic], expected[statistic]), (
            statistic,
            statistics[statistic],
            expected[statistic],
        )
    # Nothing of it holds by being zero or alike.
    assert all(float(expected[key].std()) > 0 for key in SEEN - {"activation_nonzero", "activation_rank"})


def test_the_reference_can_tell_a_unit_from_another() -> None:
    """Negative control: with the owners of a flattened map in a wrong order nothing but averages agrees."""
    case = CASES["flatten"]
    module, given = make(case), batches(case.shape)
    wrong = replace(case, consumers=((Consumer("7", 1, cycled(4, 6)),),))
    measured, expected = collected(captured(module, case), given), reference(module, wrong, given)
    assert not any(close(measured[key], expected[key]) for key in SEEN - {"activation_rank"})


def test_each_use_counts_once() -> None:
    """Negative control: the gradient of a value that a shortcut carries on holds the later uses, too."""
    case = CASES["two layers"]
    module, given = make(case), batches(case.shape)
    statistics = collected(captured(module, case), given)["gate_gradient"]
    twice = []
    for batch in given:
        for x, y in zip(batch.inputs, batch.targets, strict=True):
            hidden = torch.relu(module.stem(torch.tanh(module.first(x[None])))).detach().requires_grad_()  # type: ignore[operator]
            inner = hidden + module.back(torch.relu(module.left(hidden)) * torch.sigmoid(module.right(hidden)))  # type: ignore[operator]
            last = torch.tanh(inner)
            last.retain_grad()
            loss(module.head(last), y[None], None).backward(inputs=[hidden, last])  # type: ignore[operator]
            twice.append((hidden * hidden.grad + last * last.grad)[0].detach().abs())  # type: ignore[operator]
    assert not close(statistics, torch.stack(twice).mean(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear", "flatten", "head", "last state", "samples unseen", "constant"])
def test_batches_of_any_size_give_the_same(name: str) -> None:
    case = CASES[name]
    network = captured(make(case), case)
    one, many = (collected(network, batches(case.shape, sizes), ALL) for sizes in ((11,), (4, 3, 2, 2)))
    assert one.keys() == many.keys()
    for statistic in one:
        assert close(one[statistic], many[statistic]), statistic


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear", "flatten", "stream", "head width"])
def test_one_backward_pass_gives_what_one_a_sample_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    network, given = captured(make(case), case), batches(case.shape)
    expected = collected(network, given)

    def blind(*arguments: Any) -> Any:
        points = activity_points(*arguments)
        return {group: tuple(replace(each, samples=None) for each in some) for group, some in points.items()}

    monkeypatch.setattr(unit_collection, "activity_points", blind)
    points = collected(network, given)
    assert "activation_rank" not in points
    for statistic in SEEN - {"activation_rank"}:
        assert close(points[statistic], expected[statistic]), statistic


def test_units_that_never_leave_an_operator_have_no_activity() -> None:
    case = CASES["linear"]
    network = captured(make(case), case)
    hidden = [replace(each, inputs=None) for each in network.analysis.contractions]
    network.analysis.contractions[:] = hidden
    statistics = collected(network, batches(case.shape), ALL)
    assert set(statistics) == {"hessian_trace"}


# Hutchinson


def hessian(module: nn.Module, names: Sequence[str], given: list[Batch]) -> tuple[Tensor, list[Tensor]]:
    """The Hessian of the mean loss over the named weights, and where each lies in it."""
    parameters = dict(module.named_parameters())
    shapes = [parameters[name].shape for name in names]
    ends = np.cumsum([0, *(shape.numel() for shape in shapes)]).tolist()
    inputs = torch.cat([batch.inputs for batch in given])
    targets = torch.cat([batch.targets for batch in given])

    def value(flat: Tensor) -> Tensor:
        own = {
            name: flat[start:end].view(shape)
            for name, start, end, shape in zip(names, ends[:-1], ends[1:], shapes, strict=True)
        }
        return loss(functional_call(module, own, (inputs,)), targets, None)

    flat = torch.cat([parameters[name].detach().flatten() for name in names])
    second = torch.autograd.functional.hessian(value, flat)
    places = [
        torch.arange(start, end).view(shape) for start, end, shape in zip(ends[:-1], ends[1:], shapes, strict=True)
    ]
    return second, places


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear", "linear 2", "convolution", "head", "head width"])
def test_the_trace_is_that_of_the_exact_hessian(name: str) -> None:
    case = CASES[name]
    module, given = make(case), batches(case.shape)
    rows = {
        "linear": {"0.weight": channels(6)},
        "linear 2": {"2.weight": channels(5)},
        "convolution": {"0.weight": channels(6)},
        "head": {f"{each}.weight": channels(2, 3) for each in ("query", "key", "value")},
        "head width": {f"{each}.weight": cycled(3, 2) for each in ("query", "key")},
    }[name]
    written_out = CASES.get(f"{name}, eager", case)  # fused attention has no second derivative; same weights
    exact, places = hessian(make(written_out), list(rows), given)
    unit = torch.full((len(exact),), -1)
    for owner, at in zip(rows.values(), places, strict=True):
        for row, each in enumerate(owner):
            unit[at[row]] = each
    expected = torch.stack([exact.diagonal()[unit == each].sum() for each in range(case.size)])
    # sum over i in the unit of v_i H_ij v_j: a pair within it comes twice.
    off = (exact - exact.diagonal().diag()).square()
    inside = unit[:, None] == unit[None, :]
    variance = torch.stack([(off * (1 + inside))[unit == each].sum() for each in range(case.size)])
    probes = 1000
    network = captured(module, case)
    statistics = collect_units(
        network.graph,
        network.analysis,
        [network.group],
        {},
        frozenset({"hessian_trace"}),
        lambda: given,
        loss,
        probes=probes,
    )[network.group.name]["hessian_trace"]
    sigma = (variance / probes).sqrt()
    assert bool(((statistics - expected).abs() < 4.0 * sigma).all())
    assert float(sigma.norm()) < 0.2 * float(expected.norm())  # so that a wrong trace is seen


def test_one_probe_is_exact_where_the_hessian_is_diagonal() -> None:
    """One-hot inputs and a square loss on the units themselves: no two weights of the first layer meet."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    with torch.no_grad():
        module[1].weight.copy_(torch.diag(torch.tensor([1.0, 2.0, 3.0])))  # type: ignore[operator]
    case = Case(lambda: module, (3,), ("0.weight", 0), 3, ())
    given = [Batch(torch.eye(3), torch.zeros(3, 3), None, torch.arange(3))]
    graph = capture(module, torch.eye(3)).graph
    analysis = Analysis(graph)
    (group,) = grouping(graph, analysis).groups
    statistics = collect_units(
        graph,
        analysis,
        [group],
        {},
        frozenset({"hessian_trace"}),
        lambda: given,
        lambda outputs, targets, weights: (outputs - targets).square().sum(1).mean(),
        probes=1,
    )
    # d^2/dw_ui^2 of mean_i (c_u w_ui)^2 is 2 c_u^2 / 3, and there are 3 of them.
    assert close(statistics[group.name]["hessian_trace"], torch.tensor([2.0, 8.0, 18.0])), case


# What is left of a pruned graph


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # torch's own, when it copies a graph
def test_statistics_of_a_pruned_graph_are_those_of_the_module_with_silenced_units() -> None:
    case = CASES["flatten"]
    module, given = make(case), batches(case.shape)
    network = captured(module, case)
    first = next(group for group in network.groups if group.size == 6)
    keep = {
        first.prime: np.array([True, False, True, True, False, True]),
        network.group.prime: np.array([False, True, True, False]),
    }
    graph = rewritten(network.graph, network.analysis, keep)
    statistics = collect_units(graph, network.analysis, network.groups, keep, ALL, lambda: given, loss)
    with torch.no_grad():
        for layer, removed in (("0", [1, 4]), ("1", [1, 4]), ("3", [0, 3])):
            module.get_submodule(layer).get_parameter("weight")[removed] = 0.0
            module.get_submodule(layer).get_parameter("bias")[removed] = 0.0
    for name, group in (("convolution", first), ("flatten", network.group)):
        left = torch.from_numpy(keep[group.prime])
        expected = reference(module, CASES[name], given)
        for statistic in SEEN:
            assert close(statistics[group.name][statistic], expected[statistic][left]), (name, statistic)
        assert statistics[group.name]["hessian_trace"].shape == (int(left.sum()),)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.parametrize("name", ["head width", "head width, eager", "head width, heads first"])
def test_samples_are_found_where_a_factor_before_them_is_pruned(name: str) -> None:
    case = CASES[name]
    module, given = make(case), batches(case.shape)
    network = captured(module, case)
    heads = captured(module, CASES["head"]).group.name
    keep = {network.prime_of(heads): np.array([False, True])}
    graph = rewritten(network.graph, network.analysis, keep)
    needs: frozenset[UnitStatistic] = frozenset({"gate_gradient", "squared_gate_gradient"})
    statistics = collect_units(graph, network.analysis, network.groups, keep, needs, lambda: given, loss)
    with torch.no_grad():
        for layer in ("query", "key", "value"):
            module.get_parameter(f"{layer}.weight")[:3] = 0.0
            module.get_parameter(f"{layer}.bias")[:3] = 0.0
    expected = reference(module, case, given)
    for statistic in needs:
        assert close(statistics[network.group.name][statistic], expected[statistic])


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
def test_units_of_a_pruned_graph_are_the_rows_that_stay() -> None:
    case = CASES["flatten"]
    module = make(case)
    network = captured(module, case)
    first = next(group for group in network.groups if group.size == 6)
    masks = {first.prime: np.array([1, 0, 1, 1, 0, 1], bool), network.group.prime: np.array([0, 1, 1, 0], bool)}
    graph = rewritten(network.graph, network.analysis, masks)
    conv, norm, later, linear = (module.get_parameter(f"{name}.weight") for name in "0137")
    some, others = [0, 2, 3, 5], [1, 2]
    units = make_units(graph, network.analysis, first, masks, "sum", {})
    assert units.size == 4
    assert torch.equal(units.made[0], conv[some].flatten(1))
    assert torch.equal(units.taken[0], later[others][:, some].movedim(1, 0).flatten(1))
    assert torch.equal(units.scales[0], norm[some][:, None])
    units = make_units(graph, network.analysis, network.group, masks, "max", {"activation_mean": torch.ones(2)})
    taken = linear.view(3, 4, 6)[:, others].permute(1, 2, 0)
    assert torch.equal(units.made[0], later[others][:, some].flatten(1))
    assert torch.equal(units.taken[0], taken.reshape(2, 18))
    assert (units.aggregate, units.scales, list(units.statistics)) == ("max", [], ["activation_mean"])


# make_units


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "made", "taken", "scales"),
    [
        ("linear", [(6, 4)], [(6, 5)], []),
        ("convolution", [(6, 18)], [(6, 36)], [(6, 1)]),
        ("flatten", [(4, 54)], [(4, 18)], []),
        ("two layers", [(6, 5), (6, 7)], [(6, 7), (6, 7), (6, 3)], []),
        ("stream", [(8, 5), (8, 6)], [(8, 6)] * 3 + [(8, 3)], [(8, 1)]),
        ("head", [(2, 24)] * 3, [(2, 24)], []),
        ("head width", [(3, 16)] * 2, [], []),
        ("last state", [(4, 24), (4, 16)], [(4, 16), (4, 5)], []),
    ],
)
def test_units_are_the_rows_that_make_and_take_them(
    name: str, made: list[Any], taken: list[Any], scales: list[Any]
) -> None:
    """Biases and running statistics are no weights, and a norm's scale is one apart."""
    network = captured(make(CASES[name]), CASES[name])
    units = make_units(network.graph, network.analysis, network.group, {}, "sum", {})
    for parts, expected in ((units.made, made), (units.taken, taken), (units.scales, scales)):
        assert sorted(tuple(each.shape) for each in parts) == sorted(expected)
        assert not any(each.requires_grad for each in parts)


class Normed(nn.Module):
    """Scales of three kinds; the group norm's groups are the units."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(2, 6, 3), nn.GroupNorm(3, 6)
        self.conv2, self.norm2 = nn.Conv2d(6, 4, 3), nn.InstanceNorm2d(4, affine=True)
        self.linear, self.norm3 = nn.Linear(4, 5), nn.RMSNorm(5)
        self.head = nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 2, 6, 8) -> (B, 3)."""
        maps = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(inputs)))))
        return self.head(self.norm3(self.linear(torch.relu(maps).mean((2, 3)))))


def test_scales_of_all_normalizations_are_found() -> None:
    case = Case(Normed, MAP, ("head.weight", 1), 5, ())
    module = make(case)
    network = captured(module, case)
    scales = {}
    for group in network.groups:
        units = make_units(network.graph, network.analysis, group, {}, "sum", {})
        scales[group.name] = [each.flatten().tolist() for each in units.scales]
    scale = {name: getattr(module, name).weight.tolist() for name in ("norm1", "norm2", "norm3")}
    assert scales["linear"] == [scale["norm3"]]
    assert scales["conv2"] == [scale["norm2"]]
    assert scales["conv1"] == [scale["norm1"]]  # three units, two channels each
    assert all(sorted(place.tensor for place in group.places if "norm" in place.tensor) for group in network.groups)


# Manners


@pytest.mark.parametrize("frozen", [False, True])
def test_the_graph_stays_as_it_was(frozen: bool) -> None:
    case = CASES["convolution"]
    module = make(case)
    for parameter in module.parameters():
        parameter.requires_grad_(not frozen)
    network = captured(module, case)
    before = {name: tensor.clone() for name, tensor in network.graph.state_dict().items()}
    given = batches(case.shape)
    statistics = collected(network, given, ALL)
    assert statistics.keys() == ALL
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.graph.state_dict().items())
    for parameter in network.graph.parameters():
        assert parameter.grad is None
        assert parameter.requires_grad is not frozen
    assert not any(batch.inputs.requires_grad for batch in given)
    assert not any(each.requires_grad for each in statistics.values())


def test_data_are_asked_for_once_and_only_where_they_are_needed() -> None:
    case = CASES["linear"]
    network, calls = captured(make(case), case), []

    def ask() -> list[Batch]:
        calls.append(1)
        return batches(case.shape)

    none = collect_units(network.graph, network.analysis, network.groups, {}, frozenset(), ask, loss)
    assert none == {group.name: {} for group in network.groups}
    assert calls == []
    collect_units(network.graph, network.analysis, network.groups, {}, ALL, ask, loss)
    assert calls == [1]


def test_only_what_is_needed_is_collected() -> None:
    case = CASES["convolution"]
    network, given = captured(make(case), case), batches(case.shape)
    whole = collected(network, given, ALL)
    for statistic in STATISTICS:
        statistics = collected(network, given, frozenset({statistic}))
        assert statistics.keys() == {statistic}
        assert torch.equal(statistics[statistic], whole[statistic])


@pytest.mark.parametrize("needs", [SEEN, frozenset({"hessian_trace"})], ids=["seen", "trace"])
def test_no_batch_outlives_its_turn(needs: frozenset[UnitStatistic]) -> None:
    case = CASES["convolution"]
    network = captured(make(case), case)
    outputs: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def watching(values: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        alive.append(sum(each() is not None for each in outputs))
        outputs.append(weakref.ref(values))
        return loss(values, targets, weights)

    given = batches(case.shape, (3, 3, 3, 3))
    collect_units(network.graph, network.analysis, network.groups, {}, needs, lambda: given, watching)
    assert alive == [0, 0, 0, 0]


def test_another_seed_draws_other_probes() -> None:
    case = CASES["linear"]
    network, given = captured(make(case), case), batches(case.shape)
    one, same, other = (
        collected(network, given, frozenset({"hessian_trace"}), seed=seed)["hessian_trace"] for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
