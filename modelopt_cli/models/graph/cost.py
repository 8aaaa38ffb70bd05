"""What a network costs when so many units of each group are left: a formula over axes, so that no pass is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import fx, nn

from modelopt_cli.models.graph.analysis import Analysis, attribute
from modelopt_cli.models.graph.axes import Axis, Prime, length, primes

Counts = Mapping[Prime, int]
"""Units left; of a prime without an entry all."""


class Costs:
    """Of a captured graph, for any counts."""

    def __init__(self, graph: fx.GraphModule, analysis: Analysis) -> None:
        self._macs = analysis.macs
        self._tensors = [
            (attribute(graph, name).element_size(), isinstance(attribute(graph, name), nn.Parameter), dims)
            for name, dims in analysis.own_tensors()
        ]
        self._batch = dict.fromkeys((prime for axis in analysis.samples for prime in primes(axis)), 1)

    def macs(self, counts: Counts) -> int:
        """Multiply-accumulates of a forward pass on one sample, counted as models/measure.py counts them."""
        return sum(size(axes, {**counts, **self._batch}) for _, axes in self._macs)

    def macs_of(self, counts: Counts) -> Mapping[str, int]:
        """The same by node."""
        macs: dict[str, int] = {}
        for node, axes in self._macs:
            macs[node] = macs.get(node, 0) + size(axes, {**counts, **self._batch})
        return macs

    def parameters(self, counts: Counts) -> int:
        """Parameters; tied ones once."""
        return sum(size(dims, counts) for _, is_parameter, dims in self._tensors if is_parameter)

    def tensor_bytes(self, counts: Counts) -> int:
        """Bytes of parameters, buffers and constants."""
        return sum(item * size(dims, counts) for item, _, dims in self._tensors)


def size(axes: Sequence[Axis], counts: Counts) -> int:
    """Values of a tensor with these axes."""
    return math.prod(length(axis, counts) for axis in axes)
