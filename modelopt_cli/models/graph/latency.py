"""How long a network takes with fewer units: a model of every node's time, fitted to times measured at some widths.

t = a + b * multiply-accumulates + c * values written, none of them negative, for each node by itself (least squares at
some widths); the sum is scaled to the time of the whole network, which runs without the interpreter's overhead.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from modelopt_cli.models.graph.analysis import Analysis
from modelopt_cli.models.graph.cost import Counts, size
from modelopt_cli.models.graph.groups import Group
from modelopt_cli.models.graph.network import Network

_WIDTHS = (1.0, 0.75, 0.5, 0.25)
_RUNS = 7


class _Timed(fx.Interpreter):
    """Milliseconds of each node, the least of several runs."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.least: dict[str, float] = {}

    def run_node(self, n: fx.Node) -> Any:
        start = time.perf_counter()
        value = super().run_node(n)
        if n.op == "call_function":
            spent = 1000.0 * (time.perf_counter() - start)
            self.least[n.name] = min(spent, self.least.get(n.name, spent))
        return value


class LatencyModel:
    """Milliseconds of a forward pass on `batch` samples on one thread of the CPU, for any counts."""

    def __init__(self, network: Network, groups: Sequence[Group], inputs: Tensor) -> None:
        """`groups`: those that will shrink; `inputs`: (B, *inputs) a batch of the size that the budget is about."""
        self._analysis, self._costs = network.analysis, network.costs
        self._factors = _fitted(network, groups, inputs)
        whole, held = _whole(network.current(), inputs), network.counts()
        self._scale = whole / max(self._sum(held), 1e-9)

    def milliseconds(self, counts: Counts) -> float:
        """Predicted."""
        return self._scale * self._sum(counts)

    def correct(self, factor: float) -> None:
        """The measured time was `factor` times what was predicted."""
        self._scale *= factor

    def _sum(self, counts: Counts) -> float:
        macs = self._costs.macs_of(counts)
        return sum(
            float(factors @ _features(node, self._analysis, macs, counts)) for node, factors in self._factors.items()
        )


def _fitted(network: Network, groups: Sequence[Group], inputs: Tensor) -> dict[str, NDArray[np.float64]]:
    """node -> (a, b, c)"""
    from scipy.optimize import nnls

    rows: dict[str, list[NDArray[np.float64]]] = {}
    times: dict[str, list[float]] = {}
    for width in _WIDTHS:
        keep = {prime: mask.copy() for prime, mask in network.held.items()}
        for group in groups:
            mask = keep.get(group.prime, np.ones(group.size, dtype=np.bool_))
            left = np.flatnonzero(mask)
            mask = np.zeros_like(mask)
            mask[left[: max(1, round(width * len(left)))]] = True
            keep[group.prime] = mask
        counts = network.counts(keep)
        timed = _Timed(network.without(keep))
        with torch.inference_mode():
            for _ in range(_RUNS):
                timed.run(inputs)
        macs = network.costs.macs_of(counts)
        for node, least in timed.least.items():
            rows.setdefault(node, []).append(_features(node, network.analysis, macs, counts))
            times.setdefault(node, []).append(least)
    coefficients = {}
    for node, features in rows.items():
        matrix = np.stack(features)
        scale = np.maximum(matrix.max(0), 1e-12)
        coefficients[node] = nnls(matrix / scale, np.array(times[node]))[0] / scale
    return coefficients


def _features(node: str, analysis: Analysis, macs: Mapping[str, int], counts: Counts) -> NDArray[np.float64]:
    dims = analysis.values.get(node)
    written = size(dims, counts) if dims and not isinstance(dims[0], list) else 0  # type: ignore[arg-type]
    return np.array([1.0, macs.get(node, 0), written], dtype=np.float64)


def _whole(graph: fx.GraphModule, inputs: Tensor) -> float:
    """Milliseconds, the least of several runs."""
    least = float("inf")
    with torch.inference_mode():
        for _ in range(_RUNS):
            start = time.perf_counter()
            graph(inputs)
            least = min(least, 1000.0 * (time.perf_counter() - start))
    return least
