"""The layers that take a group's units: their weights, and the second moments of what they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from modelopt_cli.models.graph.analysis import Analysis
from modelopt_cli.models.graph.axes import Keep, holds, unit_places
from modelopt_cli.models.graph.groups import Group
from modelopt_cli.models.graph.layers import Layer, layers
from modelopt_cli.models.graph.walk import Values, walk
from modelopt_cli.pruning.common.units import Consumer


@dataclass(frozen=True)
class GraphConsumer(Consumer):
    """A consumer in a captured graph, as that is; its columns are those of the units that are left."""

    layer: Layer
    mean: Tensor  # (in,) float64, E[x]


def _consumers(
    known: Mapping[str, Layer], analysis: Analysis, group: Group, held: Keep
) -> dict[str, tuple[Layer, Tensor]]:
    """Node's name -> (layer, columns), of the layers that sum over the group's units."""
    consumers = {}
    for name, layer in known.items():
        axis = layer.input_axis(analysis)
        if holds(axis, group.prime):
            inputs = torch.from_numpy(unit_places(axis, group.prime, held))  # (units, inputs of each)
            spread = torch.arange(layer.spread)
            consumers[name] = layer, (inputs[:, :, None] * layer.spread + spread).flatten(1)
    return consumers


def consumers_are_known(graph: fx.GraphModule, analysis: Analysis, group: Group) -> bool:
    """Whether every sum over the group's units is that of a linear layer or convolution, which `measure` gives."""
    known = layers(graph, analysis)
    return all(each.node in known for each in analysis.contractions if holds(each.axis, group.prime))


def taking(graph: fx.GraphModule, analysis: Analysis, group: Group) -> list[str]:
    """Nodes of the layers that take the group's units, without a pass."""
    known = layers(graph, analysis)
    return [name for name, layer in known.items() if holds(layer.input_axis(analysis), group.prime)]


def width_of_consumers(graph: fx.GraphModule, analysis: Analysis, group: Group) -> int:
    """Inputs of the widest layer that takes the group's units; 0: there is none. Without a pass."""
    known = layers(graph, analysis)
    return max((known[name].matrix(graph).shape[1] for name in taking(graph, analysis, group)), default=0)


def measure(
    graph: fx.GraphModule,
    analysis: Analysis,
    groups: Sequence[Group],
    held: Keep,
    batches: Sequence[Tensor],
    positions: int,
) -> dict[str, list[GraphConsumer]]:
    """Of each group the layers that take its units. `positions`: how many of each sample count."""
    known = layers(graph, analysis)
    consumers = {group.name: _consumers(known, analysis, group, held) for group in groups}
    wanted = {node: layer for own in consumers.values() for node, (layer, _) in own.items()}
    moments: dict[str, tuple[Tensor, Tensor]] = {}

    def visit(nodes: Sequence[fx.Node], values: Values) -> None:
        layer = wanted.get(nodes[0].name)
        if layer is None:
            return
        count, mean, gram = 0, torch.zeros(()), torch.zeros(())
        for value in values[0][layer.inputs.name]:
            rows = layer.rows(value, positions).float()
            mean, gram = mean + rows.sum(0).double().cpu(), gram + (rows.T @ rows).double().cpu()
            count += len(rows)
        moments[nodes[0].name] = mean / count, gram / count

    walk([graph], batches, visit)
    return {
        name: [
            GraphConsumer(layer.matrix(graph), moments[node][1], columns, layer, moments[node][0])
            for node, (layer, columns) in own.items()
        ]
        for name, own in consumers.items()
    }
