"""What importances of units look at, in a captured network: the rows of its weights, and what runs through it.

n units of a group, B samples of a batch. The graph's nodes say where units are taken (points.py). There their
activity a is read, and there a gate m, a factor that is 1, would stand: with it at 0 the unit is gone, so dL/dm is the
first-order price of taking it out. It is the sum over all layers that take the unit of a dL/da, each with its own use
of a alone: what a shortcut carries past a layer counts where the next one takes it. What a recurrent layer keeps to
itself has no gate. Sums are in float64, and no more than one batch is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from modelopt_cli.core.seeds import derive
from modelopt_cli.core.work import counted
from modelopt_cli.models.graph.analysis import Analysis, attribute
from modelopt_cli.models.graph.axes import Keep, holds
from modelopt_cli.models.graph.call import overload
from modelopt_cli.models.graph.groups import Group, Place, unit_rows
from modelopt_cli.models.graph.rewriting import first_tensor
from modelopt_cli.pruning.common.units import Aggregate, Units, UnitStatistic
from modelopt_cli.pruning.units.points import ActivityPoint, Edge, EdgeInterpreter, activity_points
from modelopt_cli.training.batches import Batch
from modelopt_cli.training.losses import Loss

UnitStatistics = dict[UnitStatistic, Tensor]
"""Of one group, each (n,) float64."""
_ACTIVITY: frozenset[UnitStatistic] = frozenset(
    {"activation_mean", "activation_nonzero", "activation_variance", "activation_rank"}
)
_GRADIENTS: frozenset[UnitStatistic] = frozenset({"activation_gradient", "gate_gradient", "squared_gate_gradient"})
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
) -> dict[str, UnitStatistics]:
    """Name of each group -> statistic -> (n,) float64; a group whose units cannot be seen lacks those of activity.

    `graph` has what `keep` leaves of what was analysed. `batches` is called once, where data are needed. Samples count
    by their weights, in activity where they lie apart; several points of a group count alike. `probes`, `seed`: the
    random vectors behind `hessian_trace`.
    """
    statistics: dict[str, UnitStatistics] = {group.name: {} for group in groups}
    if not needs:
        return statistics
    given = batches()
    if needs & (_ACTIVITY | _GRADIENTS):
        meter = _UnitMeter(activity_points(graph, analysis, groups, keep), needs)
        for batch, shares in counted(zip(given, _shares(given), strict=True), "batches measured", len(given)):
            _pass(graph, meter, batch, shares, loss)
        for name, each in meter.values().items():
            statistics[name] |= each
    if "hessian_trace" in needs:
        products = _hessian_products(graph, analysis, groups, given, loss, probes, seed)
        for group in groups:
            places = [place for place in _weights(graph, group) if place.producer and place.tensor in products]
            rows = [unit_rows(products[place.tensor], analysis, group, place, keep).sum(1) for place in places]
            if rows:
                statistics[group.name]["hessian_trace"] = torch.stack(rows).sum(0)
    return statistics


def _weights(graph: fx.GraphModule, group: Group) -> list[Place]:
    """Places of the group in matrices and kernels that are learned."""
    tensors = ((place, attribute(graph, place.tensor)) for place in group.places)
    return [place for place, tensor in tensors if isinstance(tensor, nn.Parameter) and tensor.ndim > 1]


def _scales(graph: fx.GraphModule, analysis: Analysis) -> list[Place]:
    """The dimensions of all scales of normalizations."""
    at = {overload(name): number for name, number in _SCALE_AT.items()}
    names: dict[str, None] = {}
    for node in graph.graph.nodes:
        number = at.get(node.target) if node.op == "call_function" else None
        if number is not None:
            weight = node.args[number] if len(node.args) > number else node.kwargs.get("weight")
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


def _pass(graph: fx.GraphModule, meter: _UnitMeter, batch: Batch, shares: Tensor, loss: Loss) -> None:
    """One batch through the graph: activity as it is seen, gradients at the end."""
    gradients = bool(meter.needs & _GRADIENTS)

    def seen(node: str, value: Tensor) -> None:
        meter.add_activity(node, value, shares)

    run = EdgeInterpreter(graph, meter.edges, seen, differentiable=gradients)
    with torch.set_grad_enabled(gradients):
        outputs = first_tensor(run.run(batch.inputs))
        if gradients:
            _add_gradients(meter, run.crossed, outputs, batch, shares, loss)


def _add_gradients(
    meter: _UnitMeter, crossed: Mapping[Edge, Tensor], outputs: Tensor, batch: Batch, shares: Tensor, loss: Loss
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
    for sample in range(size if blind else 0):
        value = loss(outputs[sample : sample + 1], batch.targets[sample : sample + 1], None)
        gradients = _gradients(value, lone, retain=True)
        for key, each in blind.items():
            read.setdefault(key, []).append(_read(each, crossed, gradients, size))
    for name, some in meter.points.items():
        pairs = [read[name, number] for number in range(len(some))]
        if pairs:
            gates = torch.stack([torch.cat([gate for gate, _ in each], 1) for each in pairs]).sum(0)
            meter.add_gradients(name, gates, [torch.cat([slope for _, slope in each], 1) for each in pairs], shares)


def _read(
    point: ActivityPoint, crossed: Mapping[Edge, Tensor], gradients: Mapping[Edge, Tensor], size: int
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
    gradients = torch.autograd.grad(
        value, list(of.values()), retain_graph=retain or again, create_graph=again, allow_unused=True
    )
    return {
        key: torch.zeros_like(each) if gradient is None else gradient
        for (key, each), gradient in zip(of.items(), gradients, strict=True)
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
    for batch, shares in counted(zip(batches, _shares(batches), strict=True), "batches measured", len(batches)):
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            run = EdgeInterpreter(graph, set(), lambda node, value: None, differentiable=False, leaves=named)
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


class _UnitMeter:
    """Sums over calibration batches of what the points of each group show, in float64: one number a unit.

    What `needs` names of _ACTIVITY and _GRADIENTS. `shares`: (B,) what samples count.
    """

    def __init__(self, points: Mapping[str, Sequence[ActivityPoint]], needs: frozenset[UnitStatistic]) -> None:
        self.points, self.needs = points, needs
        self.edges: set[Edge] = {(each.node, user) for some in points.values() for each in some for user in each.users}
        self._at: dict[str, list[tuple[str, int, ActivityPoint]]] = {}  # node -> its points, each with group and number
        for name, some in points.items():
            for number, point in enumerate(some):
                self._at.setdefault(point.node, []).append((name, number, point))
        self._sums: dict[tuple[str, int], dict[str, Tensor]] = {}

    def add_activity(self, node: str, value: Tensor, shares: Tensor) -> None:
        """What a node computed for one batch."""
        if self.needs & _ACTIVITY:
            for name, number, point in self._at[node]:
                rows = point.rows(value, len(shares))  # (n, S, ...)
                for statistic, each in self._means(point, rows):
                    self._add(name, number, statistic, each, shares)

    def _means(self, point: ActivityPoint, rows: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Names and (n, S) numbers."""
        flat = rows.flatten(1).view(*rows.shape[:2], -1).double()  # (n, S, positions)
        if "activation_mean" in self.needs:
            yield "activation_mean", flat.abs().mean(2)
        if "activation_nonzero" in self.needs:
            yield "activation_nonzero", (flat != 0).double().mean(2)
        if "activation_variance" in self.needs:
            yield "mean", flat.mean(2)
            yield "square", flat.square().mean(2)
        if "activation_rank" in self.needs and (point.samples is not None or point.constant):
            yield "activation_rank", _rank(rows)

    def add_gradients(self, name: str, gates: Tensor, slopes: Sequence[Tensor], shares: Tensor) -> None:
        """Of a group for one batch: (n, B) dL_i/dm, and for each point (n, B) the mean over positions of |dL_i/da|."""
        self._add(name, 0, "gate_gradient", gates.abs(), shares)
        self._add(name, 0, "squared_gate_gradient", gates.square(), shares)
        for number, each in enumerate(slopes):
            self._add(name, number, "activation_gradient", each, shares)

    def _add(self, name: str, number: int, statistic: str, each: Tensor, shares: Tensor) -> None:
        """`each`: (n, S)."""
        shares = shares.to(each.device)
        mean = each @ (shares if each.shape[1] == len(shares) else shares.sum()[None])
        sums = self._sums.setdefault((name, number), {})
        sums[statistic] = sums[statistic] + mean if statistic in sums else mean

    def values(self) -> dict[str, UnitStatistics]:
        """Group's name -> statistic -> (n,), the mean over points."""
        values: dict[str, UnitStatistics] = {name: {} for name in self.points}
        for name, points in self.points.items():
            sums = [self._sums[name, number] for number in range(len(points)) if (name, number) in self._sums]
            for each in sums:
                if "square" in each:
                    each["activation_variance"] = (each["square"] - each["mean"].square()).clamp_min(0.0)
            for statistic in sorted(self.needs & (_ACTIVITY | _GRADIENTS)):
                seen = [each[statistic] for each in sums if statistic in each]
                if seen:
                    values[name][statistic] = torch.stack(seen).mean(0)
        return values


def _rank(rows: Tensor) -> Tensor:
    """(n, S) the rank of what lies in the last two dimensions that are no 1, over all others the mean of it."""
    sizes = [size for size in rows.shape[2:] if size > 1]
    maps = rows.reshape(*rows.shape[:2], *sizes).to(torch.promote_types(rows.dtype, torch.float32))
    if len(sizes) < 2:  # a number or a vector has rank 1, or 0 where it is zero
        return (maps != 0).view(*rows.shape[:2], -1).any(2).double()
    ranks: Tensor = torch.linalg.matrix_rank(maps)
    return ranks.double().view(*rows.shape[:2], -1).mean(2)
