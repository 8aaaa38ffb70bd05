"""What importances of units look at, in a captured network: the rows of its weights, and what runs through it.

n units of a group, B samples of a batch. The graph's nodes say where units are taken (points.py). There their
activity a is read, and there a gate m, a factor that is 1, would stand: with it at 0 the unit is gone, so dL/dm is the
first-order price of taking it out. It is the sum over all layers that take the unit of a dL/da, each with its own use
of a alone: what a shortcut carries past a layer counts where the next one takes it. What a recurrent layer keeps to
itself has no gate. Sums are in float64, and no more than one batch is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from modelopt_cli.core.seeds import derive
from modelopt_cli.models.graph.analysis import Analysis, attribute
from modelopt_cli.models.graph.axes import Keep, holds
from modelopt_cli.models.graph.call import overload
from modelopt_cli.models.graph.groups import Group, Place, unit_rows
from modelopt_cli.models.graph.rewriting import first_tensor
from modelopt_cli.pruning.common.units import Aggregate, Units, UnitStatistic
from modelopt_cli.pruning.units.meter import ACTIVITY, GRADIENTS, Meter
from modelopt_cli.pruning.units.points import Edge, Point, Run, points
from modelopt_cli.training.batches import Batch
from modelopt_cli.training.losses import Loss

Found = dict[UnitStatistic, Tensor]
_SCALE_AT = {  # where a normalization has its scale among its arguments
    **dict.fromkeys(("batch_norm.default", "instance_norm.default", "_native_batch_norm_legit.default"), 1),
    **dict.fromkeys(("layer_norm.default", "group_norm.default", "rms_norm.default"), 2),
}


def make_units(
    graph: fx.GraphModule,
    analysis: Analysis,
    group: Group,
    keep: Keep,
    aggregate: Aggregate,
    statistics: Mapping[UnitStatistic, Tensor],
) -> Units:
    """The units of a group as an importance sees them. `graph` has what `keep` leaves of what was analysed."""

    def rows(places: Iterable[Place]) -> list[Tensor]:
        return [unit_rows(attribute(graph, place.tensor).detach(), analysis, group, place, keep) for place in places]

    scales = [
        place for place in _scales(graph, analysis) if holds(analysis.tensors[place.tensor][place.dim], group.prime)
    ]
    scaling = {place.tensor for place in scales}
    weights = [place for place in _weights(graph, group) if place.tensor not in scaling]
    made, taken = ([place for place in weights if place.producer is side] for side in (True, False))
    size = int(keep[group.prime].sum()) if group.prime in keep else group.size
    return Units(group.name, size, rows(made), rows(taken), rows(scales), aggregate, statistics)


def collect_units(
    graph: fx.GraphModule,
    analysis: Analysis,
    groups: Sequence[Group],
    keep: Keep,
    needs: frozenset[UnitStatistic],
    batches: Callable[[], Sequence[Batch]],
    loss: Loss,
    *,
    probes: int = 8,
    seed: int = 0,
) -> dict[str, Found]:
    """Name of each group -> statistic -> (n,) float64; a group whose units cannot be seen lacks those of activity.

    `graph` has what `keep` leaves of what was analysed. `batches` is called once, where data are needed. Samples count
    by their weights, in activity where they lie apart; several points of a group count alike. `probes`, `seed`: the
    random vectors behind `hessian_trace`.
    """
    found: dict[str, Found] = {group.name: {} for group in groups}
    if not needs:
        return found
    given = batches()
    if needs & (ACTIVITY | GRADIENTS):
        meter = Meter(points(graph, analysis, groups, keep), needs)
        for batch, shares in zip(given, _shares(given), strict=True):
            _pass(graph, meter, batch, shares, loss)
        for name, each in meter.values().items():
            found[name] |= each
    if "hessian_trace" in needs:
        products = _hessian_products(graph, analysis, groups, given, loss, probes, seed)
        for group in groups:
            places = [place for place in _weights(graph, group) if place.producer and place.tensor in products]
            rows = [unit_rows(products[place.tensor], analysis, group, place, keep).sum(1) for place in places]
            if rows:
                found[group.name]["hessian_trace"] = torch.stack(rows).sum(0)
    return found


def _weights(graph: fx.GraphModule, group: Group) -> list[Place]:
    """Places of the group in matrices and kernels that are learned."""
    found = ((place, attribute(graph, place.tensor)) for place in group.places)
    return [place for place, tensor in found if isinstance(tensor, nn.Parameter) and tensor.ndim > 1]


def _scales(graph: fx.GraphModule, analysis: Analysis) -> list[Place]:
    """The dimensions of all scales of normalizations."""
    at = {overload(name): place for name, place in _SCALE_AT.items()}
    names: dict[str, None] = {}
    for node in graph.graph.nodes:
        place = at.get(node.target) if node.op == "call_function" else None
        if place is not None:
            weight = node.args[place] if len(node.args) > place else node.kwargs.get("weight")
            if isinstance(weight, fx.Node) and weight.op == "get_attr":
                names[analysis.first[str(weight.target)]] = None
    return [Place(name, dim, producer=True) for name in names for dim in range(len(analysis.tensors[name]))]


def _shares(batches: Sequence[Batch]) -> list[Tensor]:
    """(B,) float64 what each sample counts for: all alike, or by their weights; over all batches 1."""
    each = [
        torch.ones(len(batch.inputs), device=batch.inputs.device) if batch.weights is None else batch.weights
        for batch in batches
    ]
    total = sum(float(one.sum()) for one in each) or 1.0
    return [one.double() / total for one in each]


def _pass(graph: fx.GraphModule, meter: Meter, batch: Batch, shares: Tensor, loss: Loss) -> None:
    """One batch through the graph: activity as it is seen, gradients at the end."""
    gradients = bool(meter.needs & GRADIENTS)

    def seen(node: str, value: Tensor) -> None:
        meter.add_activity(node, value, shares)

    run = Run(graph, meter.edges, seen, differentiable=gradients)
    with torch.set_grad_enabled(gradients):
        outputs = first_tensor(run.run(batch.inputs))
        if gradients:
            _add_gradients(meter, run.crossed, outputs, batch, shares, loss)


def _add_gradients(
    meter: Meter, crossed: Mapping[Edge, Tensor], outputs: Tensor, batch: Batch, shares: Tensor, loss: Loss
) -> None:
    """Samples do not see each other, so one backward pass gives all their gradients where they lie apart in a value.

    Where they do not (a value that no input has a part in), each sample's loss has a backward pass of its own.
    """
    size = len(shares)
    every = {(name, number): each for name, some in meter.points.items() for number, each in enumerate(some)}
    blind = {key: each for key, each in every.items() if each.samples is None}
    lone = {edge: value for edge, value in crossed.items() if any(edge[0] == each.node for each in blind.values())}
    whole = _gradients(loss(outputs, batch.targets, None) * size, crossed, retain=bool(blind))
    read = {key: [_read(each, crossed, whole, size)] for key, each in every.items() if key not in blind}
    for place in range(size if blind else 0):
        value = loss(outputs[place : place + 1], batch.targets[place : place + 1], None)
        found = _gradients(value, lone, retain=True)
        for key, each in blind.items():
            read.setdefault(key, []).append(_read(each, crossed, found, size))
    for name, some in meter.points.items():
        pairs = [read[name, number] for number in range(len(some))]
        if pairs:
            gates = torch.stack([torch.cat([gate for gate, _ in each], 1) for each in pairs]).sum(0)
            meter.add_gradients(name, gates, [torch.cat([slope for _, slope in each], 1) for each in pairs], shares)


def _read(
    point: Point, crossed: Mapping[Edge, Tensor], gradients: Mapping[Edge, Tensor], size: int
) -> tuple[Tensor, Tensor]:
    """(n, S) sum over positions of a dL/da, and (n, S) mean over them of |dL/da|."""
    edges = [(point.node, user) for user in point.users]
    gradient = point.rows(torch.stack([gradients[edge] for edge in edges]).sum(0), size)
    activity = point.rows(crossed[edges[0]].detach(), size)
    shape = (*gradient.shape[:2], -1)
    gradient, activity = gradient.reshape(shape).double(), activity.reshape(shape).double()
    others = size if point.samples is None and not point.constant else 1  # positions of other samples, which are 0
    return (activity * gradient).sum(2), gradient.abs().mean(2) * others


def _gradients(
    value: Tensor, of: Mapping[Any, Tensor], *, retain: bool = False, again: bool = False
) -> dict[Any, Tensor]:
    """Zero for what takes no part in `value`. `again`: they can be differentiated."""
    if not value.requires_grad or not of:
        return {key: torch.zeros_like(each) for key, each in of.items()}
    found = torch.autograd.grad(
        value, list(of.values()), retain_graph=retain or again, create_graph=again, allow_unused=True
    )
    return {
        key: torch.zeros_like(each) if gradient is None else gradient
        for (key, each), gradient in zip(of.items(), found, strict=True)
    }


def _hessian_products(
    graph: fx.GraphModule,
    analysis: Analysis,
    groups: Sequence[Group],
    batches: Sequence[Batch],
    loss: Loss,
    probes: int,
    seed: int,
) -> dict[str, Tensor]:
    """Name of each weight that makes units -> v * (H v), the mean over random signs v; its sum estimates a trace.

    The v are the same for all batches, so that batches of any size give the same.
    """
    made = {place.tensor: None for group in groups for place in _weights(graph, group) if place.producer}
    leaves = {name: attribute(graph, name).detach().requires_grad_() for name in made}
    named = {name: leaves[first] for name, first in analysis.first.items() if first in leaves}
    if not leaves:
        return {}
    sums = {name: torch.zeros_like(leaf, dtype=torch.float64) for name, leaf in leaves.items()}
    for batch, shares in zip(batches, _shares(batches), strict=True):
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            run = Run(graph, set(), lambda node, value: None, differentiable=False, leaves=named)
            outputs = first_tensor(run.run(batch.inputs))
            first = _gradients(loss(outputs, batch.targets, batch.weights), leaves, again=True)
            for probe in range(probes):
                signs = {name: _signs(leaf, derive(seed, "hessian", probe, name)) for name, leaf in leaves.items()}
                inner = torch.stack([(first[name] * signs[name]).sum() for name in leaves]).sum()
                for name, product in _gradients(inner, leaves, retain=True).items():
                    sums[name] += (signs[name] * product).double() * (float(shares.sum()) / probes)
    return sums


def _signs(like: Tensor, seed: int) -> Tensor:
    drawn = torch.randint(0, 2, like.shape, generator=torch.Generator().manual_seed(seed))
    return (2 * drawn - 1).to(like)
