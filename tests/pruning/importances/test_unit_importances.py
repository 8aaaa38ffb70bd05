"""Every importance of units against its formula, computed from the original module; and what all of them promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.models.graph.analysis import Analysis
from modelopt_cli.models.graph.capture import capture
from modelopt_cli.models.graph.groups import Group, grouping
from modelopt_cli.pruning.common.units import Aggregate, Units
from modelopt_cli.pruning.importances import UnitImportance
from modelopt_cli.pruning.units.collection import collect_units, make_units
from modelopt_cli.pruning.units.consumers import measure
from modelopt_cli.training.batches import Batch

NAMES = [
    name for name in FAMILIES["importances"].names() if issubclass(FAMILIES["importances"].get(name), UnitImportance)
]
ON_WEIGHTS = ("l1", "l2", "fpgm", "magnitude", "bn_scale", "random")
Scores = dict[str, Tensor]


# Networks


def conv_net() -> nn.Module:
    """(B, 2, 6, 6) -> (B, 3)."""
    first = [nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()]
    second = [nn.Conv2d(6, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(36, 3))


def normed_mlp() -> nn.Module:
    """(B, 4) -> (B, 3)."""
    return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 3))


class Grouped(nn.Module):
    """A depthwise convolution, and a shortcut: two layers make the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 6, 1), nn.BatchNorm2d(6)
        self.depthwise, self.inner = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6)
        self.project, self.outer = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 2, 6, 6) -> (B, 3)."""
        maps = torch.relu(self.norm(self.stem(inputs)))
        maps = maps + self.outer(self.project(torch.relu(self.inner(self.depthwise(maps)))))
        return self.head(torch.tanh(maps).mean((2, 3)))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutions": (conv_net, (2, 6, 6)),
    "normed": (normed_mlp, (4,)),
    "grouped": (Grouped, (2, 6, 6)),
}


def make(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    module = build()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0.0, 0.3)  # type: ignore[union-attr]
    return module.eval()


def loss(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    return F.cross_entropy(outputs, targets)


def batches(shape: tuple[int, ...], sizes: tuple[int, ...] = (6, 3)) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for size in sizes:
        inputs = torch.randn(size, *shape, generator=generator)
        made.append(Batch(inputs, torch.randint(0, 3, (size,), generator=generator), None, torch.arange(size)))
    return made


def importance(name: str, **options: Any) -> UnitImportance:
    return FAMILIES["importances"].get(name).model_validate(options)  # type: ignore[return-value]


def scores(
    name: str, module: nn.Module, shape: tuple[int, ...], aggregate: Aggregate = "sum", **options: Any
) -> tuple[Scores, tuple[Group, ...]]:
    """Of each group by name, through the graph."""
    given, criterion = batches(shape), importance(name, **options)
    graph = capture(module, given[0].inputs).graph
    analysis = Analysis(graph)
    groups = grouping(graph, analysis).groups
    probes = criterion.hessian_probes()
    statistics = collect_units(graph, analysis, groups, {}, criterion.unit_needs, lambda: given, loss, probes=probes)
    consumers = measure(graph, analysis, groups, {}, [batch.inputs for batch in given], 64)
    scored = {}
    for group in groups:
        own = consumers[group.name] if criterion.needs_consumers else []
        units = make_units(graph, analysis, group, {}, aggregate, statistics[group.name])
        scored[group.name] = criterion.scores(replace(units, consumers=own))
    return scored, groups


def samples(shape: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
    return [(x[None], y[None]) for batch in batches(shape) for x, y in zip(batch.inputs, batch.targets, strict=True)]


def activity(module: nn.Module, layer: str, inputs: Tensor) -> Tensor:
    """What a layer gives."""
    outputs_seen: list[Tensor] = []
    handle = module.get_submodule(layer).register_forward_hook(lambda own, given, out: outputs_seen.append(out))
    outputs = module(inputs)
    handle.remove()
    outputs_seen[0].outputs = outputs  # type: ignore[attr-defined]
    return outputs_seen[0]


# What each is, for the channels of both convolutions: what follows is (B, C, H, W) after layers 2 and 6


def of_filters(measure: Callable[[Tensor], Tensor]) -> Callable[[nn.Module], list[Tensor]]:
    return lambda module: [measure(module.get_submodule(name).weight.detach()) for name in "03"]  # type: ignore[operator]


def of_maps(measure: Callable[[Tensor], Tensor]) -> Callable[[nn.Module], list[Tensor]]:
    """`measure`: (samples, C, H, W) -> (C,)."""
    inputs = torch.cat([x for x, _ in samples((2, 6, 6))])
    return lambda module: [measure(activity(module, name, inputs).detach().double()) for name in "26"]


def of_slopes(measure: Callable[[Tensor, Tensor], Tensor]) -> Callable[[nn.Module], list[Tensor]]:
    """`measure`: (C, H, W) a and dL_i/da -> (C,), of which the mean over samples is taken."""

    def found(module: nn.Module) -> list[Tensor]:
        each: list[list[Tensor]] = [[], []]
        for x, y in samples((2, 6, 6)):
            for number, name in enumerate("26"):
                maps = activity(module, name, x)
                (slope,) = torch.autograd.grad(F.cross_entropy(maps.outputs, y), maps)  # type: ignore[attr-defined]
                each[number].append(measure(maps[0].detach(), slope[0]))
        return [torch.stack(some).mean(0) for some in each]

    return found


def rank(maps: Tensor) -> Tensor:
    each = [[np.linalg.matrix_rank(one.float().numpy()) for one in sample] for sample in maps]
    return torch.tensor(np.array(each)).double().mean(0)


def whole(module: nn.Module) -> list[Tensor]:
    """Sum |w| of all that a channel holds in matrices and kernels: with `sum`."""
    first, second, last = (module.get_submodule(name).weight.detach().abs() for name in "038")  # type: ignore[operator]
    return [
        first.sum((1, 2, 3)) + second.sum((0, 2, 3)),
        second.sum((1, 2, 3)) + last.view(3, 4, 9).sum((0, 2)),
    ]


def distances(filters: Tensor) -> Tensor:
    return torch.stack([sum((one - other).norm() for other in filters) for one in filters])


REFERENCES: dict[str, Callable[[nn.Module], list[Tensor]]] = {
    "l1": of_filters(lambda filters: filters.abs().sum((1, 2, 3))),
    "l2": of_filters(lambda filters: filters.flatten(1).square().sum(1).sqrt()),
    "fpgm": of_filters(distances),
    "magnitude": whole,
    "bn_scale": lambda module: [module.get_submodule(name).weight.detach().abs() for name in "14"],  # type: ignore[operator]
    "activation_mean": of_maps(lambda maps: maps.abs().mean((0, 2, 3))),
    "apoz": of_maps(lambda maps: 1.0 - (maps == 0).double().mean((0, 2, 3))),
    "activation_variance": of_maps(lambda maps: maps.transpose(0, 1).flatten(1).var(1, correction=0)),
    "hrank": of_maps(rank),
    "taylor": of_slopes(lambda maps, slope: (maps * slope).sum((1, 2)).abs()),
    "gradient": of_slopes(lambda maps, slope: slope.abs().mean((1, 2))),
    "fisher": of_slopes(lambda maps, slope: (maps * slope).sum((1, 2)).square() / 2),
}


def pooled(module: nn.Module) -> nn.Module:
    """Layer 6 gives what the linear layer takes: pooling before the ReLU is the same as behind it."""
    assert isinstance(module, nn.Sequential)
    module[5], module[6] = nn.MaxPool2d(2), nn.ReLU()
    return module.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", REFERENCES)
def test_scores_are_those_of_the_formula(name: str) -> None:
    module = pooled(make(conv_net))
    score_of, _ = scores(name, module, (2, 6, 6))
    for layer, expected in zip("03", REFERENCES[name](module), strict=True):
        score = score_of[layer]
        assert torch.allclose(score.double(), expected.double(), rtol=1e-4, atol=1e-7), (score, expected)


def test_references_differ() -> None:
    """Negative control: no two of the formulas give what could be taken for another."""
    module = pooled(make(conv_net))
    flattened = {name: torch.cat(reference(module)).double() for name, reference in REFERENCES.items()}
    for one, first in flattened.items():
        for other, second in flattened.items():
            assert one == other or not torch.allclose(first, second, rtol=1e-2), (one, other)


def test_importances_of_weights_alone_are_listed() -> None:
    for name in NAMES:
        kind = FAMILIES["importances"].get(name)
        assert issubclass(kind, UnitImportance)
        by_weights = not kind.unit_needs and not kind.needs_consumers
        assert by_weights == (name in ON_WEIGHTS), f"{name} looks at {'' if by_weights else 'more than '}weights alone"


def test_no_importance_is_without_a_reference() -> None:
    missing = set(NAMES) - {*REFERENCES, "random", "hessian", "obs"}  # obs: test_elimination.py
    assert not missing, f"add the formula of {min(missing)} to REFERENCES"
    assert set(REFERENCES) < set(NAMES)


@pytest.mark.slow
def test_hessian_is_trace_and_norm() -> None:
    """tr(H) / (2 p) ||w||^2 with the exact Hessian of a unit's own weights."""
    module = make(normed_mlp)
    given = batches((4,))
    inputs, targets = torch.cat([b.inputs for b in given]), torch.cat([b.targets for b in given])
    weight = module.get_submodule("0").weight.detach()  # type: ignore[operator]

    def value(own: Tensor) -> Tensor:
        outputs = torch.func.functional_call(module, {"0.weight": own}, (inputs,))
        return sum(  # type: ignore[return-value]
            F.cross_entropy(outputs[part], targets[part]) * share
            for part, share in ((slice(0, 6), 6 / 9), (slice(6, 9), 3 / 9))
        )

    exact = torch.autograd.functional.hessian(value, weight)
    trace = torch.stack([sum(exact[unit, k, unit, k] for k in range(4)) for unit in range(6)])
    expected = trace / 8 * weight.square().sum(1)
    score_of, _ = scores("hessian", module, (4,), probes=1500)
    assert float((score_of["0"] - expected).norm()) < 0.1 * float(expected.norm())
    rough, _ = scores("hessian", module, (4,), probes=1)
    assert float((rough["0"] - expected).norm()) > float((score_of["0"] - expected).norm())


def test_l2_looks_at_consumers_on_request() -> None:
    module = make(conv_net)
    score_of, _ = scores("l2", module, (2, 6, 6), consumers=True)
    first, second = (module.get_submodule(name).weight.detach() for name in "03")  # type: ignore[operator]
    expected = first.flatten(1).norm(dim=1) + second.transpose(0, 1).flatten(1).norm(dim=1)
    assert torch.allclose(score_of["0"], expected)


@pytest.mark.parametrize("aggregate", ["sum", "mean", "max"])
def test_a_group_is_aggregated_over_all_layers_that_make_it(aggregate: Aggregate) -> None:
    module = make(Grouped)
    score_of, groups = scores("l1", module, (2, 6, 6), aggregate)
    assert len(groups) == 1  # depthwise and shortcut: all channels are one
    each = torch.stack(
        [getattr(module, name).weight.detach().abs().sum((1, 2, 3)) for name in ("stem", "depthwise", "project")]
    )
    expected = {"sum": each.sum(0), "mean": each.mean(0), "max": each.amax(0)}[aggregate]
    assert torch.allclose(score_of[groups[0].name], expected)


def test_bn_scale_takes_all_norms_of_a_group_and_refuses_a_group_without() -> None:
    module = make(Grouped)
    score_of, groups = scores("bn_scale", module, (2, 6, 6))
    expected = sum(getattr(module, name).weight.detach().abs() for name in ("norm", "inner", "outer"))
    assert torch.allclose(score_of[groups[0].name], expected)
    plain = make(lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)))
    with pytest.raises(UsageError, match=r"units of 0 go through no normalization.*pruning.exclude.*l2"):
        scores("bn_scale", plain, (4,))


def test_what_was_not_collected_is_named() -> None:
    units = Units("lstm", 3, [], [], [])
    with pytest.raises(UsageError, match=r"lstm have no gate_gradient.*recurrent layer.*l2"):
        importance("taylor").scores(units)
    for name in ("l1", "l2", "fpgm", "magnitude", "hessian"):
        with pytest.raises(UsageError, match="lstm touch nothing"):
            importance(name).scores(units)


def test_random_depends_on_seed_and_group_alone() -> None:
    units = [Units(name, 50, [torch.zeros(50, 1)], [], []) for name in ("a", "b")]
    one, same = (importance("random", seed=1).scores(units[0]) for _ in range(2))
    assert torch.equal(one, same)
    assert not torch.equal(one, importance("random", seed=2).scores(units[0]))
    assert not torch.equal(one, importance("random", seed=1).scores(units[1]))
    assert 0.0 <= float(one.min()) < 0.2 < 0.8 < float(one.max()) < 1.0


# What holds of all


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", NAMES)
def test_every_importance_scores_every_unit(name: str, network: str) -> None:
    """One finite number a unit, the same again, and the module left as it was."""
    build, shape = NETWORKS[network]
    module = make(build)
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    score_of, groups = scores(name, module, shape)
    again, _ = scores(name, module, shape)
    assert score_of
    for group in groups:
        score = score_of[group.name]
        assert score.shape == (group.size,)
        assert bool(score.isfinite().all())
        assert not score.requires_grad
        assert torch.equal(score, again[group.name])
        assert float(score.double().std()) > 0 or name == "hrank"
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())


def ranked(module: nn.Module, order: Tensor) -> nn.Module:
    """The same network with the hidden units of normed_mlp or a plain one in another order."""
    other = make(normed_mlp)
    with torch.no_grad():
        for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
            other.get_parameter(name).copy_(module.get_parameter(name)[order])
        other.get_parameter("3.weight").copy_(module.get_parameter("3.weight")[:, order])
        other.get_parameter("3.bias").copy_(module.get_parameter("3.bias"))
    return other


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("random", "hessian")])
def test_units_in_another_order_have_the_same_scores(name: str) -> None:
    module, order = make(normed_mlp), torch.tensor([3, 0, 5, 1, 4, 2])
    one, other = (scores(name, each, (4,))[0]["0"] for each in (module, ranked(module, order)))
    assert torch.allclose(one[order], other, rtol=1e-4, atol=1e-7)
    assert name == "hrank" or not torch.allclose(one, other, rtol=1e-2)


SCALED = {"activation_mean": 1.0, "activation_variance": 2.0, "gradient": -1.0, "l1": 1.0, "l2": 1.0}
ALIKE = ("taylor", "fisher", "apoz", "hrank")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SCALED, *ALIKE])
def test_a_unit_that_is_scaled_up_and_taken_scaled_down(name: str) -> None:
    """The network computes the same; importances that ask what a unit does must not see it."""
    plain = make(lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)))
    factor = torch.tensor([1.0, 2.0, 0.5, 4.0, 8.0])
    before = scores(name, plain, (4,))[0]["0"]
    with torch.no_grad():
        plain.get_parameter("0.weight").mul_(factor[:, None])
        plain.get_parameter("0.bias").mul_(factor)
        plain.get_parameter("2.weight").div_(factor)
    after = scores(name, plain, (4,))[0]["0"]
    assert torch.allclose(after, before * factor ** SCALED.get(name, 0.0), rtol=1e-4)


ROWS = st.integers(2, 8).flatmap(
    lambda units: st.lists(st.integers(1, 5).map(lambda width: (units, width)), min_size=1, max_size=3)
)


def random_units(shapes: list[tuple[int, int]], seed: int, aggregate: Aggregate) -> Units:
    generator = torch.Generator().manual_seed(seed)
    size = shapes[0][0]
    made, taken, scales = ([torch.randn(shape, generator=generator) for shape in shapes] for _ in range(3))
    trace = {"hessian_trace": torch.randn(size, generator=generator).double()}
    return Units("layer", size, made, taken, scales, aggregate, trace)  # type: ignore[arg-type]


def changed(units: Units, change: Callable[[Tensor], Tensor]) -> Units:
    made, taken, scales = ([change(rows) for rows in some] for some in (units.made, units.taken, units.scales))
    return Units(units.name, units.size, made, taken, scales, units.aggregate, units.statistics)


@pytest.mark.parametrize("name", [name for name in ON_WEIGHTS if name != "random"])
@settings(deadline=None, max_examples=25)
@drawn(
    shapes=ROWS,
    seed=st.integers(0, 1000),
    aggregate=st.sampled_from(["sum", "mean", "max"]),
    factor=st.sampled_from([-2.0, 0.25, 3.0]),
)
def test_scores_of_weights_go_with_their_size_and_order(
    name: str, shapes: list[tuple[int, int]], seed: int, aggregate: Aggregate, factor: float
) -> None:
    units, criterion = random_units(shapes, seed, aggregate), importance(name)
    score = criterion.scores(units)
    assert score.shape == (units.size,)
    assert bool((score >= 0).all())
    order = torch.randperm(units.size, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(criterion.scores(changed(units, lambda rows: rows[order])), score[order], rtol=1e-4)
    scaled = criterion.scores(changed(units, lambda rows: rows * factor))
    assert torch.allclose(scaled, score * abs(factor), rtol=1e-4)


@settings(deadline=None, max_examples=25)
@drawn(shapes=ROWS, seed=st.integers(0, 1000))
def test_equal_filters_have_the_least_distances_in_sum(shapes: list[tuple[int, int]], seed: int) -> None:
    """FPGM goes by what could be replaced, not by size: shifting all filters changes nothing."""
    units = random_units(shapes, seed, "sum")
    moved = changed(units, lambda rows: rows + 5.0)
    one, other = (importance("fpgm").scores(each) for each in (units, moved))
    assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(importance("l1").scores(units), importance("l1").scores(moved), rtol=1e-2)


@settings(deadline=None, max_examples=25)
@drawn(shapes=ROWS, seed=st.integers(0, 1000), factor=st.sampled_from([0.5, 3.0]))
def test_hessian_scores_go_with_the_square_of_weights(shapes: list[tuple[int, int]], seed: int, factor: float) -> None:
    units = random_units(shapes, seed, "sum")
    score = importance("hessian").scores(units)
    scaled = importance("hessian").scores(changed(units, lambda rows: rows * factor))
    assert torch.allclose(scaled, score * factor**2, rtol=1e-4)
    weights = torch.cat(list(units.made), 1).double()
    expected = units.statistics["hessian_trace"] * weights.square().mean(1) / 2
    assert torch.allclose(score, expected)
