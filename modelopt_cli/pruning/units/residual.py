"""What a layer's outputs owe to a shortcut: where they are added to something, they can make up for its error, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx

from modelopt_cli.models.graph.analysis import attribute
from modelopt_cli.models.graph.layers import Layer
from modelopt_cli.models.graph.walk import Values, run_node, writes

_LEAST_SCALE = 0.1  # of the mean scale of a batch normalization: a row that it all but switches off must not blow up


class Debt:
    """Of a layer whose outputs (through a batch normalization or not) are added to a value that does not need them."""

    def __init__(self, layer: Layer, graphs: Sequence[fx.GraphModule], values: Values) -> None:
        """`graphs`: before and after, stopped at the layer with these values."""
        self._layer, self._graphs, self._values = layer, graphs, values

    def batches(self, rows: Tensor) -> list[Tensor] | None:
        """For each batch, in the shape of the layer's outputs after; None: nothing is owed.

        `rows`: which of the outputs before stay. With s the shortcut and g / d the scale and deviation of the batch
        normalization: (s before - s after) d / g.
        """
        found = self._layer.sum_with()
        if found is None:
            return None
        other, norm = found
        if other.op != "call_function":
            return None  # a parameter, the same in both
        was, now = (self._value(place, other) for place in (0, 1))
        if was is None or now is None:
            return None
        if not self._layer.is_convolution and self._layer.rank == 2:  # of (B, ..., out), rows in the same order
            was, now = ([each.flatten(0, -2) for each in parts] for parts in (was, now))
        dim = 1 if norm is not None or self._layer.is_convolution else -1
        place = rows.to(was[0].device).nonzero()[:, 0]
        owed = []
        for one, two in zip(was, now, strict=True):
            if one.dim() != two.dim() or one.shape[dim] != len(rows):
                return None  # broadcast, so not a shortcut of the same outputs
            owed.append(one.index_select(dim, place) - two)
        return owed if norm is None else [each * self._factor(norm, each.dim()) for each in owed]

    def _factor(self, norm: fx.Node, rank: int) -> Tensor:
        arguments: list[Any] = list(norm.args)
        scale, variance = (attribute(self._graphs[1], str(arguments[place].target)).detach() for place in (1, 4))
        least = _LEAST_SCALE * scale.abs().mean()
        scale = scale.sign().masked_fill(scale == 0, 1.0) * scale.abs().clamp_min(least)
        factor: Tensor = (variance + arguments[7]).sqrt() / scale
        return factor.view(1, -1, *[1] * (rank - 2))

    def _value(self, place: int, node: fx.Node) -> list[Any] | None:
        """The node's value in a graph: at hand, or from what is; None when it needs the layer's own outputs."""
        own = self._values[place]
        known: dict[str, list[Any]] = {}

        def find(each: fx.Node) -> bool:
            if each.name in own or each.name in known or each.op == "get_attr":
                return True
            if each.name == self._layer.node.name or each.op != "call_function" or writes(each):
                return False
            if not all(find(used) for used in each.all_input_nodes):
                return False
            batches = own[self._layer.inputs.name]  # as many; what is no placeholder does not look at them
            known[each.name] = run_node(self._graphs[place], each, {**own, **known}, batches)
            return True

        named = {each.name: each for each in self._graphs[place].graph.nodes}
        return ({**own, **known}).get(node.name) if find(named[node.name]) else None
