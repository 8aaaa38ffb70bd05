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
from modelopt_cli.pruning.common.units import Taker


@dataclass(frozen=True)
class Consumer:
    """A layer, where the group's units lie in its inputs, and the inputs' moments (float64) in the graph as it is."""

    layer: Layer
    columns: Tensor  # (units that are left, c) columns of the layer's matrix that each unit has
    mean: Tensor  # (n,)
    gram: Tensor  # (n, n) E[x x^T]

    def taker(self, graph: fx.GraphModule) -> Taker:
        """What an importance sees of it."""
        return Taker(self.layer.matrix(graph), self.gram, self.columns)


def _takers(
    known: Mapping[str, Layer], analysis: Analysis, group: Group, held: Keep
) -> dict[str, tuple[Layer, Tensor]]:
    """Node's name -> (layer, columns), of the layers that sum over the group's units."""
    found = {}
    for name, layer in known.items():
        axis = layer.input_axis(analysis)
        if holds(axis, group.prime):
            inputs = torch.from_numpy(unit_places(axis, group.prime, held))  # (units, inputs of each)
            spread = torch.arange(layer.spread)
            found[name] = layer, (inputs[:, :, None] * layer.spread + spread).flatten(1)
    return found


def takers_are_known(graph: fx.GraphModule, analysis: Analysis, group: Group) -> bool:
    """Whether every sum over the group's units is that of a linear layer or convolution, which `measure` gives."""
    known = layers(graph, analysis)
    return all(each.node in known for each in analysis.contractions if holds(each.axis, group.prime))


def measure(
    graph: fx.GraphModule,
    analysis: Analysis,
    groups: Sequence[Group],
    held: Keep,
    batches: Sequence[Tensor],
    positions: int,
) -> dict[str, list[Consumer]]:
    """Of each group the layers that take its units. `positions`: how many of each sample count."""
    known = layers(graph, analysis)
    takers = {group.name: _takers(known, analysis, group, held) for group in groups}
    wanted = {node: layer for found in takers.values() for node, (layer, _) in found.items()}
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
        name: [Consumer(layer, columns, *moments[node]) for node, (layer, columns) in found.items()]
        for name, found in takers.items()
    }
