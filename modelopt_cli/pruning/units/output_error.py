"""What cutting one group alone does to the network's outputs, with what makes up for it where the units were taken.

A unit that is gone is a unit whose columns are 0 in every layer that takes it, so the network need not be rebuilt: the
part up to the first of those layers is run once for each group, the rest once for each cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from modelopt_cli.models.graph.analysis import attribute
from modelopt_cli.models.graph.rewriting import first_tensor, set_tensor
from modelopt_cli.models.graph.walk import run_node, writes
from modelopt_cli.pruning.common.distances import Distance, apart
from modelopt_cli.pruning.common.moments import Moments
from modelopt_cli.pruning.compensations import UnitCompensation
from modelopt_cli.pruning.units.consumers import Consumer


@dataclass
class _Point:
    """The network stopped before the first layer that takes a group's units."""

    group: str
    index: int  # of the node
    values: dict[str, list[Any]]


class Damage:
    """Of a graph as it is. Graphs that this reads are not changed."""

    def __init__(
        self,
        graph: fx.GraphModule,
        consumers: Mapping[str, Sequence[Consumer]],
        batches: Sequence[Tensor],
        compensation: UnitCompensation,
        distance: Distance,
    ) -> None:
        self._graph = fx.GraphModule(graph, graph.graph)  # its tensors are put in and taken out
        self._nodes = [node for node in self._graph.graph.nodes if node.op != "output"]
        self._output = next(node for node in self._graph.graph.nodes if node.op == "output")
        self._consumers, self._batches = consumers, batches
        self._compensation, self._distance = compensation, distance
        self._point: _Point | None = None
        self._before: list[Tensor] | None = None

    @torch.no_grad()
    def of(self, group: str, stays: Tensor) -> float:
        """Distance of the outputs when of the group's units (those that are left) these stay. `stays`: (n,) bool."""
        point = self._stopped(group)
        if self._before is None:
            self._before = self._rest(point)
        changed: dict[str, Tensor] = {}
        for consumer in self._consumers[group]:
            changed |= self._cut(consumer, stays)
        originals = {name: _get(self._graph, name) for name in changed}
        try:
            for name, tensor in changed.items():
                set_tensor(self._graph, name, tensor)
            now = self._rest(point)
        finally:
            for name, tensor in originals.items():
                set_tensor(self._graph, name, tensor)
        return apart(self._before, now, self._distance)

    def _cut(self, consumer: Consumer, stays: Tensor) -> dict[str, Tensor]:
        """Tensors of the layer without the units, refitted from the moments alone: only this group is cut."""
        layer, graph = consumer.layer, self._graph
        kept = torch.ones(len(consumer.mean), dtype=torch.bool)
        kept[consumer.columns[~stays].flatten()] = False
        gram, mean = consumer.gram, consumer.mean
        moments = Moments(kept, mean, mean[kept], gram, gram[kept][:, kept], gram[:, kept], layer.takes_bias)
        old = layer.matrix(graph)
        found = self._compensation.refit(old.cpu(), moments)
        new = torch.zeros_like(old)
        new[:, kept.to(old.device)] = found.weight.to(old)
        copy = fx.GraphModule(graph, graph.graph)
        layer.take(copy, new, None if found.bias is None else found.bias.to(old))
        return {name: _get(copy, name) for name in layer.names}

    def _stopped(self, group: str) -> _Point:
        if self._point is None or self._point.group != group:
            takers = {consumer.layer.node.name for consumer in self._consumers[group]}
            index = next(place for place, node in enumerate(self._nodes) if node.name in takers)
            needed = {each.name for node in self._nodes[index:] for each in node.all_input_nodes}
            needed |= {each.name for each in self._output.all_input_nodes}
            values: dict[str, list[Any]] = {}
            for node in self._nodes[:index]:
                values[node.name] = run_node(self._graph, node, values, self._batches)
            self._point = _Point(group, index, {name: value for name, value in values.items() if name in needed})
        return self._point

    def _rest(self, point: _Point) -> list[Tensor]:
        """Outputs, batch by batch, from the point on. Where an operator works in place, it works on copies."""
        nodes = self._nodes[point.index :]
        values = deepcopy(point.values) if any(map(writes, nodes)) else dict(point.values)  # views stay views
        for node in nodes:
            values[node.name] = run_node(self._graph, node, values, self._batches)
        outputs = self._output.all_input_nodes
        return [first_tensor(each) for each in values[outputs[0].name]]


def _get(graph: fx.GraphModule, name: str) -> Tensor:
    found = attribute(graph, name)
    assert isinstance(found, Tensor)
    return found
