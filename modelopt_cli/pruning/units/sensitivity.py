"""What cutting one group of units alone does, so that an allocation can weigh groups against each other.

A unit that is gone is a unit whose columns are 0 in every layer that takes it. So where those layers are known the
network need not be rebuilt: the part up to the first of them is run once for each group, the rest once for each cut.
Else the smaller graph is made, compensated and run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from modelopt_cli.models.graph.analysis import attribute
from modelopt_cli.models.graph.groups import Group
from modelopt_cli.models.graph.network import Network
from modelopt_cli.models.graph.rewriting import first_tensor, set_tensor
from modelopt_cli.models.graph.walk import run_node, writes
from modelopt_cli.pruning.allocations import ProbedCuts, SensitivityProbe
from modelopt_cli.pruning.common.cuts import Cut
from modelopt_cli.pruning.common.distances import Distance, apart
from modelopt_cli.pruning.common.moments import Moments
from modelopt_cli.pruning.compensations import UnitCompensation
from modelopt_cli.pruning.settings import PruningSettings
from modelopt_cli.pruning.units.consumers import GraphConsumer, consumers_are_known
from modelopt_cli.pruning.units.masks import Limit, by_prime, left, standing
from modelopt_cli.pruning.units.reconstruction import compensate
from modelopt_cli.training.batches import Batch
from modelopt_cli.training.losses import Loss


class UnitSensitivityProbe(SensitivityProbe):
    """One for each pruning; the same cut is tried once. `measured`: what was tried is added to it."""

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
    ) -> None:
        """`consumers`: of each group of this graph, measured on these batches.

        `limit`: what a unit saves is counted in its cost; without one, units are counted.
        """
        self._network, self._settings, self._scores, self._batches = network, settings, scores, batches
        self._groups = {group.name: group for group in groups}
        self._loss_of, self._distance, self._consumers = loss, distance, consumers
        self._limit, self._measured = limit, measured
        self._known: dict[tuple[str, str, int], float] = {}
        self._prices: dict[str, float] = {}
        self._before: list[Tensor] | None = None
        self._direct: dict[str, bool] = {}

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
        )

    def loss(self, name: str, cut: Cut) -> float:
        """On the calibration samples."""
        return self._once("loss", name, cut)

    def output_error(self, name: str, cut: Cut) -> float:
        """On the calibration samples, with what makes up for it."""
        return self._once("output error", name, cut)

    def price(self, name: str) -> float:
        """What the limit counts in, for the last unit of the group that is there now."""
        if self._limit is None:
            return 1.0
        if name not in self._prices:
            group, counts = self._groups[name], self._network.counts()
            units = self._network.left(group)
            whole = self._limit.cost(counts)
            less = self._limit.cost({**counts, group.prime: max(units - 1, 0)})
            self._prices[name] = max(whole - less, 1e-9 * whole)
        return self._prices[name]

    def _once(self, what: str, name: str, cut: Cut) -> float:
        key = (what, name, cut.count(self._scores[name]))
        if key not in self._known:
            stays = ~cut.removes(self._scores[name])
            stays[self._scores[name].argmax()] = True  # a group is never emptied
            measured = self._loss(name, stays) if what == "loss" else self._output_error(name, stays)
            self._known[key] = measured
            self._measured.append((name, 1.0 - float(stays.float().mean()), measured))
        return self._known[key]

    def _loss(self, name: str, stays: Tensor) -> float:
        total = count = 0.0
        for batch, outputs in zip(self._batches, self._outputs(name, stays), strict=True):
            total += float(self._loss_of(outputs, batch.targets, batch.weights)) * len(batch.inputs)
            count += len(batch.inputs)
        return total / count

    def _output_error(self, name: str, stays: Tensor) -> float:
        group = self._groups[name]
        if name not in self._direct:
            known = consumers_are_known(self._graph, self._network.analysis, group)
            self._direct[name] = known and not group.shifts
        if self._direct[name]:
            return self._fast.of(name, stays[torch.from_numpy(left(self._network, group))])
        if self._before is None:
            with torch.no_grad():
                self._before = [first_tensor(self._graph(batch.inputs)) for batch in self._batches]
        return apart(self._before, self._outputs(name, stays), self._distance)

    def _outputs(self, name: str, stays: Tensor) -> list[Tensor]:
        """Of the calibration samples, when of this group these stay."""
        network, groups = self._network, self._groups.values()
        keep = by_prime(network, groups, standing(network, groups, {name: stays}))
        graph = network.without(keep)
        compensate(network, self._settings, graph, keep, [batch.inputs for batch in self._batches])
        with torch.no_grad():
            return [first_tensor(graph(batch.inputs)) for batch in self._batches]


@dataclass
class _Stop:
    """The network stopped before the first layer that takes a group's units."""

    group: str
    index: int  # of the node
    values: dict[str, list[Any]]


class OutputErrors:
    """What cuts of single groups change in the outputs of a graph, which is not changed itself."""

    def __init__(
        self,
        graph: fx.GraphModule,
        consumers: Mapping[str, Sequence[GraphConsumer]],
        batches: Sequence[Tensor],
        compensation: UnitCompensation,
        distance: Distance,
    ) -> None:
        self._graph = fx.GraphModule(graph, graph.graph)  # its tensors are put in and taken out
        self._nodes = [node for node in self._graph.graph.nodes if node.op != "output"]
        self._output = next(node for node in self._graph.graph.nodes if node.op == "output")
        self._consumers, self._batches = consumers, batches
        self._compensation, self._distance = compensation, distance
        self._stop: _Stop | None = None
        self._before: list[Tensor] | None = None

    @torch.no_grad()
    def of(self, group: str, stays: Tensor) -> float:
        """Distance of the outputs when of the group's units (those that are left) these stay. `stays`: (n,) bool."""
        stop = self._stopped(group)
        if self._before is None:
            self._before = self._rest(stop)
        changed: dict[str, Tensor] = {}
        for consumer in self._consumers[group]:
            changed |= self._cut(consumer, stays)
        originals = {name: _get(self._graph, name) for name in changed}
        try:
            for name, tensor in changed.items():
                set_tensor(self._graph, name, tensor)
            now = self._rest(stop)
        finally:
            for name, tensor in originals.items():
                set_tensor(self._graph, name, tensor)
        return apart(self._before, now, self._distance)

    def _cut(self, consumer: GraphConsumer, stays: Tensor) -> dict[str, Tensor]:
        """Tensors of the layer without the units, refitted from the moments alone: only this group is cut."""
        layer, old = consumer.layer, consumer.matrix
        kept = torch.ones(len(consumer.mean), dtype=torch.bool)
        kept[consumer.columns[~stays].flatten()] = False
        gram, mean = consumer.gram, consumer.mean
        moments = Moments(kept, mean, mean[kept], gram, gram[kept][:, kept], gram[:, kept], layer.takes_bias)
        fitted = self._compensation.refit(old.cpu(), moments)
        new = torch.zeros_like(old)
        new[:, kept.to(old.device)] = fitted.weight.to(old)
        copy = fx.GraphModule(self._graph, self._graph.graph)
        layer.take(copy, new, None if fitted.bias is None else fitted.bias.to(old))
        return {name: _get(copy, name) for name in layer.names}

    def _stopped(self, group: str) -> _Stop:
        if self._stop is None or self._stop.group != group:
            consumers = {consumer.layer.node.name for consumer in self._consumers[group]}
            index = next(number for number, node in enumerate(self._nodes) if node.name in consumers)
            needed = {each.name for node in self._nodes[index:] for each in node.all_input_nodes}
            needed |= {each.name for each in self._output.all_input_nodes}
            values: dict[str, list[Any]] = {}
            for node in self._nodes[:index]:
                values[node.name] = run_node(self._graph, node, values, self._batches)
            self._stop = _Stop(group, index, {name: value for name, value in values.items() if name in needed})
        return self._stop

    def _rest(self, stop: _Stop) -> list[Tensor]:
        """Outputs, batch by batch, from the stop on. Where an operator works in place, it works on copies."""
        nodes = self._nodes[stop.index :]
        values = deepcopy(stop.values) if any(map(writes, nodes)) else dict(stop.values)  # views stay views
        for node in nodes:
            values[node.name] = run_node(self._graph, node, values, self._batches)
        outputs = self._output.all_input_nodes
        return [first_tensor(each) for each in values[outputs[0].name]]


def _get(graph: fx.GraphModule, name: str) -> Tensor:
    tensor = attribute(graph, name)
    assert isinstance(tensor, Tensor)
    return tensor
