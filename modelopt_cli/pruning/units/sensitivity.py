"""What cutting one group of units alone does, so that an allocation can weigh groups against each other.

A unit that is gone is a unit whose columns are 0 in every layer that takes it. So where those layers are known the
network need not be rebuilt: the rest of it, from the first of them on, is run once for each cut. What lies before is
kept of the one pass over the network as it is, as far as memory allows; beyond that it is run once for all groups whose
turn comes in the order of the network. Else the smaller graph is made, compensated and run.

How the errors of a group's cuts are to one another is told by what those layers' own outputs lose, which follows from
the moments of their inputs: no pass is needed for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from modelopt_cli.models.graph.analysis import Analysis, attribute
from modelopt_cli.models.graph.axes import Prime
from modelopt_cli.models.graph.groups import Group
from modelopt_cli.models.graph.network import Network
from modelopt_cli.models.graph.rewriting import first_tensor, set_tensor
from modelopt_cli.models.graph.walk import run_node, writes
from modelopt_cli.pruning.allocations import ProbedCuts, SensitivityProbe
from modelopt_cli.pruning.common.cuts import Cut, lowest
from modelopt_cli.pruning.common.distances import Distance, apart
from modelopt_cli.pruning.common.moments import Moments
from modelopt_cli.pruning.compensations import Compensated, UnitCompensation
from modelopt_cli.pruning.settings import PruningSettings
from modelopt_cli.pruning.units.consumers import GraphConsumer, consumers_are_known, taking, width_of_consumers
from modelopt_cli.pruning.units.cut_store import CutStore, digest
from modelopt_cli.pruning.units.masks import Limit, by_prime, left, standing
from modelopt_cli.pruning.units.reconstruction import POSITIONS, compensate
from modelopt_cli.training.batches import Batch
from modelopt_cli.training.losses import Loss

_ERROR = "output error"
_LEAST_LOSS = 1e-9  # of a layer's outputs; the logarithm of less is not wanted
_NEXT_TO_ALL = 0.99  # share lost of a layer's outputs
_ROWS = 64  # outputs of a layer that stand for all when it is asked what a cut loses of them
_HALVINGS = 20  # of an interval of shares
_KEPT_BYTES = 2**30  # of values between nodes that are kept
_WIDE, _FEW = 1024, 6  # with more inputs than this, so many cuts of a group are refitted to see how they go


def _steps(count: int, width: int) -> Iterable[float]:
    """Places in a list of `count` at which a shape is computed, for a layer of so many inputs."""
    return range(count) if width <= _WIDE or count <= _FEW else np.linspace(0, count - 1, _FEW).tolist()


def _goes_by_columns(graph: fx.GraphModule, analysis: Analysis, group: Group) -> bool:
    """Whether the group's units are gone where their columns are 0 in every layer that takes them."""
    return not group.shifts and consumers_are_known(graph, analysis, group)


def _passes_of_a_smaller_graph(settings: PruningSettings) -> float:
    """As if nothing were saved by it: it is run, after both graphs were walked through where it is compensated."""
    return 3.0 if settings.unit_compensation.fits or settings.recalibrate_batch_norm else 1.0


def passes_of_a_cut(network: Network, settings: PruningSettings) -> Callable[[Group], float]:
    """How many passes over the calibration samples it takes to cut a group alone on trial by divergence.

    Of a part of the network its multiplications count.
    """
    graph, macs = network.current(), network.costs.macs_of(network.counts())
    names, whole = [node.name for node in graph.graph.nodes], max(sum(macs.values()), 1)

    def passes(group: Group) -> float:
        takers = taking(graph, network.analysis, group)
        if not takers or not _goes_by_columns(graph, network.analysis, group):
            return _passes_of_a_smaller_graph(settings)
        return max(sum(macs.get(name, 0) for name in names[min(map(names.index, takers)) :]), 1) / whole

    return passes


def expected_passes(network: Network, groups: Sequence[Group], settings: PruningSettings) -> float:
    """About how many passes over the calibration samples trying cuts of these groups out will take."""
    allocation = settings.chosen_allocation
    if allocation is None or not allocation.measures:
        return 0.0
    tries = allocation.tries(UnitSensitivityProbe.share)
    if allocation.measured == "divergence":
        passes = passes_of_a_cut(network, settings)
        return tries * sum(map(passes, groups)) + 1.0  # what there was
    return tries * len(groups) * _passes_of_a_smaller_graph(settings) + 1.0


class UnitSensitivityProbe(SensitivityProbe):
    """One for each pruning; the same cut is tried once. `measured`: what was tried is added to it."""

    near = 1.0  # what layers lose of their outputs is told with their inputs' moments
    share = 1 / 8

    def __init__(
        self,
        network: Network,
        settings: PruningSettings,
        groups: Sequence[Group],
        scores: Mapping[str, Tensor],
        batches: Sequence[Batch],
        *,
        loss: Loss,
        distance: Distance,
        consumers: Callable[[fx.GraphModule], Mapping[str, Sequence[GraphConsumer]]],
        limit: Limit | None = None,
        measured: ProbedCuts,
        store: Callable[[str], CutStore] | None = None,
    ) -> None:
        """`consumers`: of each group of this graph, measured on these batches.

        `store`: from a digest of the network and all that decides what a cut does to what is known of that already.
        `limit`: what a unit saves is counted in its cost; without one, units are counted.
        """
        self._network, self._settings, self._scores, self._batches = network, settings, scores, batches
        self._groups = {group.name: group for group in groups}
        self._loss_of, self._distance, self._consumers = loss, distance, consumers
        self._limit, self._measured, self._open_store = limit, measured, store
        self._known: dict[tuple[str, str, int], float] = {}
        self._prices: dict[str, float] = {}
        self._before: list[Tensor] | None = None
        self._direct: dict[str, bool] = {}
        self._shapes: dict[tuple[str, tuple[int, ...]], list[float] | None] = {}
        self._untouched: float | None = None  # the loss when all units stay
        self._whole_passes = 0.0  # of smaller graphs and their compensation

    @cached_property
    def _graph(self) -> fx.GraphModule:
        return self._network.current()

    @cached_property
    def _fast(self) -> OutputErrors:
        return OutputErrors(
            self._graph,
            self._consumers(self._graph),
            [batch.inputs for batch in self._batches],
            self._settings.unit_compensation,
            self._distance,
            self._macs,
        )

    @cached_property
    def _store(self) -> CutStore | None:
        if self._open_store is None:
            return None
        tensors = {name: _get(self._graph, name) for name in self._network.analysis.tensors}
        about = (
            self._network.captured.graph.code,
            self._settings.compensation.name(),
            self._settings.compensation,
            self._settings.recalibrate_batch_norm,
            getattr(self._distance, "__qualname__", self._distance),
            POSITIONS,
        )
        return self._open_store(digest(tensors, [batch.inputs for batch in self._batches], about))

    def save(self) -> None:
        """Keep what was measured for who prunes the same network again."""
        if "_store" in vars(self) and self._store is not None:
            self._store.save()

    def _kept(self, what: str, name: str, stays: Tensor, compute: Callable[[], float]) -> float:
        """What the store knows, or else what `compute` gives."""
        known = self._store.get(what, name, stays) if self._store is not None else None
        if known is not None:
            return known
        value = compute()
        if self._store is not None:
            self._store.put(what, name, stays, value)
        return value

    @cached_property
    def _macs(self) -> Mapping[str, int]:
        return self._network.costs.macs_of(self._network.counts())

    def cost(self, name: str) -> float:
        """See the base class."""
        return self._cost_of(self._groups[name])

    @cached_property
    def _cost_of(self) -> Callable[[Group], float]:
        return passes_of_a_cut(self._network, self._settings)

    @property
    def passes(self) -> float:  # type: ignore[override]
        """See the base class."""
        return self._whole_passes + (self._fast.passes if "_fast" in vars(self) else 0.0)

    def loss(self, name: str, cut: Cut) -> float:
        """On the calibration samples."""
        return self._once("loss", name, cut)

    def output_error(self, name: str, cut: Cut) -> float:
        """On the calibration samples, with what makes up for it."""
        return self._once(_ERROR, name, cut)

    def output_errors(self, cuts: Mapping[str, Sequence[Cut]]) -> dict[str, list[float]]:
        """In the order in which the network takes the groups' units."""
        places = {node.name: number for number, node in enumerate(self._graph.graph.nodes)}
        order = sorted(cuts, key=lambda name: self._first(name, places))
        errors = super().output_errors({name: cuts[name] for name in order})
        return {name: errors[name] for name in cuts}

    def known_errors(self, name: str) -> Mapping[int, float]:
        """See the base class."""
        return {count: error for (what, own, count), error in self._known.items() if (what, own) == (_ERROR, name)}

    def shape(self, name: str, counts: Sequence[int]) -> Sequence[float] | None:
        """What the layers that take the group's units lose of their outputs; without such layers, of the scores."""
        key = (name, tuple(counts))
        if key not in self._shapes:
            self._shapes[key] = self._shape(name, counts)
        return self._shapes[key]

    def _shape(self, name: str, counts: Sequence[int]) -> list[float] | None:
        group = self._groups[name]
        width = width_of_consumers(self._graph, self._network.analysis, group)
        if not width:
            ordered = self._scores[name].nan_to_num(neginf=0.0).clamp_min(0.0).sort().values.double()
            removed = ordered.cumsum(0) / ordered.sum().clamp_min(1e-30)
            return [_information(float(removed[count - 1])) for count in counts]
        here = torch.from_numpy(left(self._network, group))

        def lost(stays: Tensor) -> float:
            return self._kept("lost", name, stays, lambda: self._fast.lost(name, stays[here]))

        tried = sorted({counts[round(step)] for step in _steps(len(counts), width)})
        losses = [lost(self._stays(name, lowest(self._scores[name], count))) for count in tried]
        known = np.maximum.accumulate(np.maximum(losses, _LEAST_LOSS))
        return [float(each) for each in np.exp(np.interp(np.log(counts), np.log(tried), np.log(known)))]

    def price(self, name: str) -> float:
        """What the limit counts in, for one unit of the group where it is met with equal shares of all groups.

        Of layers in a row a unit costs less, the fewer units its neighbours have, so at a deep cut what it costs in
        the network as it is would mislead.
        """
        if self._limit is None:
            return 1.0
        if name not in self._prices:
            counts, prime = self._equal_shares, self._groups[name].prime
            less = {**counts, prime: counts[prime] - 1}
            whole = self._limit.cost(counts)
            self._prices[name] = max(whole - self._limit.cost(less), 1e-9 * whole)
        return self._prices[name]

    @cached_property
    def _equal_shares(self) -> dict[Prime, int]:
        """Units of each prime where every group gives the same share, and so much that the limit is met."""
        assert self._limit is not None
        limit, counts = self._limit, dict(self._network.counts())
        units = {group.prime: self._network.left(group) for group in self._groups.values()}

        def left_of(share: float) -> dict[Prime, int]:
            return counts | {prime: max(1, round(share * count)) for prime, count in units.items()}

        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if limit.cost(left_of(middle)) > limit.most else (middle, high)
        return left_of(low)

    def _once(self, what: str, name: str, cut: Cut) -> float:
        key = (what, name, cut.count(self._scores[name]))
        if key not in self._known:
            stays = self._stays(name, cut)
            if what == _ERROR:
                measured = self._kept(what, name, stays, lambda: self._output_error(name, stays))
            elif bool(stays.all()) and self._untouched is not None:
                measured = self._untouched
            else:
                measured = self._loss(name, stays)
                self._untouched = measured if bool(stays.all()) else self._untouched
            self._known[key] = measured
            self._measured.append((name, 1.0 - float(stays.float().mean()), measured))
        return self._known[key]

    def _stays(self, name: str, cut: Cut) -> Tensor:
        stays = ~cut.removes(self._scores[name])
        stays[self._scores[name].argmax()] = True  # a group is never emptied
        return stays

    def _loss(self, name: str, stays: Tensor) -> float:
        total = count = 0.0
        for batch, outputs in zip(self._batches, self._outputs(name, stays), strict=True):
            total += float(self._loss_of(outputs, batch.targets, batch.weights)) * len(batch.inputs)
            count += len(batch.inputs)
        return total / count

    def _output_error(self, name: str, stays: Tensor) -> float:
        group = self._groups[name]
        if self._is_direct(name):
            return self._fast.of(name, stays[torch.from_numpy(left(self._network, group))])
        if self._before is None:
            with torch.no_grad():
                self._before = [first_tensor(self._graph(batch.inputs)) for batch in self._batches]
        return apart(self._before, self._outputs(name, stays), self._distance)

    def _first(self, name: str, places: Mapping[str, int]) -> int:
        """Where in the graph the group's units are first taken; of what is tried in a graph of its own: before all."""
        group = self._groups[name]
        if not self._is_direct(name):
            return -1
        takers = taking(self._graph, self._network.analysis, group)
        return min((places[each] for each in takers), default=-1)

    def _is_direct(self, name: str) -> bool:
        """Whether the group's units go by columns alone."""
        if name not in self._direct:
            self._direct[name] = _goes_by_columns(self._graph, self._network.analysis, self._groups[name])
        return self._direct[name]

    def _outputs(self, name: str, stays: Tensor) -> list[Tensor]:
        """Of the calibration samples, when of this group these stay."""
        network, groups = self._network, self._groups.values()
        keep = by_prime(network, groups, standing(network, groups, {name: stays}))
        graph = network.without(keep)
        compensate(network, self._settings, graph, keep, [batch.inputs for batch in self._batches])
        share = network.costs.macs(network.counts(keep)) / max(sum(self._macs.values()), 1)
        walked = self._settings.unit_compensation.fits or self._settings.recalibrate_batch_norm
        self._whole_passes += share + (1.0 + share if walked else 0.0)
        with torch.no_grad():
            return [first_tensor(graph(batch.inputs)) for batch in self._batches]


_Values = dict[str, list[Any]]
"""By node: what it gives for each batch, of those that later nodes need."""


@dataclass
class _Stop:
    """The network run up to a node, which is the next: `values` of the nodes before it that later ones need."""

    index: int
    values: _Values


class OutputErrors:
    """What cuts of single groups change in the outputs of a graph, which is not changed itself.

    Groups are taken in any order; where not all can be kept that lies before them, they cost least in that of `start`.
    `passes`: those over all batches so far; of a part of the network its multiplications count.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        consumers: Mapping[str, Sequence[GraphConsumer]],
        batches: Sequence[Tensor],
        compensation: UnitCompensation,
        distance: Distance,
        macs: Mapping[str, int] | None = None,
        *,
        kept_bytes: int = _KEPT_BYTES,
    ) -> None:
        """`macs`: multiply-accumulates of nodes by name, for `passes`. `kept_bytes`: of kept values, at most."""
        self._graph = fx.GraphModule(graph, graph.graph)  # its tensors are put in and taken out
        self._nodes = [node for node in self._graph.graph.nodes if node.op != "output"]
        self._output = next(node for node in self._graph.graph.nodes if node.op == "output")
        self._consumers, self._batches = consumers, batches
        self._compensation, self._distance = compensation, distance
        self._numbers = {node.name: number for number, node in enumerate(self._nodes)}
        self._last = {used.name: number for number, node in enumerate(self._nodes) for used in node.all_input_nodes}
        self._last |= {used.name: len(self._nodes) for used in self._output.all_input_nodes}
        self._macs, self._whole = macs or {}, sum((macs or {}).values()) or 1
        self._in_place = [number for number, node in enumerate(self._nodes) if writes(node)]
        self._stop = _Stop(0, {})
        self._room, self._kept = kept_bytes, dict[int, _Values]()  # by the number of the node before which they are
        self._before: list[Tensor] | None = None
        self.passes = 0.0

    def start(self, group: str) -> int:
        """Number of the first node that takes the group's units."""
        return min(self._numbers[consumer.layer.node.name] for consumer in self._consumers[group])

    @torch.no_grad()
    def of(self, group: str, stays: Tensor) -> float:
        """Distance of the outputs when of the group's units (those that are left) these stay. `stays`: (n,) bool."""
        if self._before is None:
            self._before = self._dense()
        stop = self._stopped(self.start(group))
        names = [name for consumer in self._consumers[group] for name in consumer.layer.names]
        originals = {name: _get(self._graph, name) for name in names}
        try:
            for consumer in self._consumers[group]:
                fitted, kept = self._refitted(consumer, stays, consumer.matrix)
                new = torch.zeros_like(consumer.matrix)
                new[:, kept.to(new.device)] = fitted.weight.to(new)
                consumer.layer.take(self._graph, new, None if fitted.bias is None else fitted.bias.to(new))
            now = self._rest(stop)
        finally:
            for name, tensor in originals.items():
                set_tensor(self._graph, name, tensor)
        return apart(self._before, now, self._distance)

    @torch.no_grad()
    def lost(self, group: str, stays: Tensor) -> float:
        """How much of what the layers that take the units give is lost when these stay: -log of the share left.

        A share of the variance of their outputs, from the moments of their inputs alone, after compensation; summed
        over layers.
        """
        return sum(_information(self._share_lost(consumer, stays)) for consumer in self._consumers[group])

    def _share_lost(self, consumer: GraphConsumer, stays: Tensor) -> float:
        every = max(1, -(-len(consumer.matrix) // _ROWS))
        rows = consumer.matrix[::every].cpu()
        fitted, kept = self._refitted(consumer, stays, rows)
        change = rows.double()
        change[:, kept] -= fitted.weight.double().cpu()
        whole, mean = rows.double(), consumer.mean.double()

        def power(matrix: Tensor, offset: Tensor) -> float:
            """Sum over rows of E[(row x)^2] - offset^2."""
            return float(((matrix @ consumer.gram.double()) * matrix).sum() - offset.square().sum())

        nothing = torch.zeros(len(rows), dtype=torch.float64)
        centred = consumer.layer.takes_bias
        lost = power(change, change @ mean if fitted.bias is not None and centred else nothing)
        return lost / max(power(whole, whole @ mean if centred else nothing), 1e-30)

    def _refitted(self, consumer: GraphConsumer, stays: Tensor, matrix: Tensor) -> tuple[Compensated, Tensor]:
        """Rows (out, n) of the layer refitted to the inputs that stay, from the moments alone: only this group is cut.

        (weight (out, s) and change of the bias, which of the n inputs stay)
        """
        kept = torch.ones(len(consumer.mean), dtype=torch.bool)
        kept[consumer.columns[~stays].flatten()] = False
        gram, mean = consumer.gram, consumer.mean
        moments = Moments(kept, mean, mean[kept], gram, gram[kept][:, kept], gram[:, kept], consumer.layer.takes_bias)
        return self._compensation.refit(matrix.cpu(), moments), kept

    def _dense(self) -> list[Tensor]:
        """Outputs of the network as it is, batch by batch. On the way what cuts begin with is kept."""
        starts, values = {self.start(group) for group, own in self._consumers.items() if own}, _Values()
        for number in range(len(self._nodes)):
            if number in starts:
                self._keep(number, values)
            self._step(number, values)
        return self._given(values)

    def _keep(self, number: int, values: _Values) -> None:
        """Keep what there is before a node, if there is room."""
        held = {id(tensor) for kept in self._kept.values() for tensor in _tensors(kept)}
        new = {id(tensor): tensor.nbytes for tensor in _tensors(values) if id(tensor) not in held}
        if sum(new.values()) <= self._room:
            self._room -= sum(new.values())
            self._kept[number] = self._own(values, range(number, len(self._nodes)))

    def _stopped(self, index: int) -> _Stop:
        """The whole network run up to that node: on from where most of it is known."""
        if index in self._kept:
            return _Stop(index, self._kept[index])
        nearest = max((number for number in self._kept if number < index), default=0)
        if not nearest <= self._stop.index <= index:
            values = self._kept.get(nearest, _Values())
            self._stop = _Stop(nearest, self._own(values, range(nearest, len(self._nodes))))
        stop = self._stop
        for number in range(stop.index, index):
            self._step(number, stop.values)
        stop.index = index
        return stop

    def _rest(self, stop: _Stop) -> list[Tensor]:
        """Outputs, batch by batch, from the stop on."""
        numbers = range(stop.index, len(self._nodes))
        values = self._own(stop.values, numbers)
        for number in numbers:
            self._step(number, values)
        return self._given(values)

    def _own(self, values: _Values, numbers: range) -> _Values:
        """Values with which these nodes can be run: copies, where one of them works in place (views stay views)."""
        return deepcopy(values) if any(number in numbers for number in self._in_place) else dict(values)

    def _given(self, values: _Values) -> list[Tensor]:
        return [first_tensor(each) for each in values[self._output.all_input_nodes[0].name]]

    def _step(self, number: int, values: _Values) -> None:
        """Run a node, and forget what no later one needs."""
        self._run(number, values)
        for used in self._nodes[number].all_input_nodes:
            if self._last[used.name] <= number:
                values.pop(used.name, None)

    def _run(self, number: int, values: _Values) -> None:
        node = self._nodes[number]
        values[node.name] = run_node(self._graph, node, values, self._batches)
        self.passes += self._macs.get(node.name, 0) / self._whole


def _tensors(values: _Values) -> Iterator[Tensor]:
    """Those in the values of nodes, which may be tuples of them."""
    for value in tree_leaves(values):
        if isinstance(value, Tensor):
            yield value


def _information(share: float) -> float:
    """-log(1 - share); where next to nothing is left, or more is lost than there was, it goes on with slope 1."""
    return -math.log(1.0 - share) if share < _NEXT_TO_ALL else -math.log(1.0 - _NEXT_TO_ALL) + share - _NEXT_TO_ALL


def _get(graph: fx.GraphModule, name: str) -> Tensor:
    tensor = attribute(graph, name)
    assert isinstance(tensor, Tensor)
    return tensor
