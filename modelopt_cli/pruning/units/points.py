"""Points of a captured network from which later layers take the units of a group: where they lie, and reading them.

n units of a group, B samples of a batch, S what can be told apart of them: B, or 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from modelopt_cli.models.graph.analysis import Analysis
from modelopt_cli.models.graph.axes import Axis, Keep, Prime, counted, factors, holds, length, resolved, unit_places
from modelopt_cli.models.graph.call import Contraction, Dims
from modelopt_cli.models.graph.groups import Group


@dataclass(frozen=True, eq=False)
class ActivityPoint:
    """A value whose dimension `dim` holds the units, and the nodes that sum over them."""

    node: str
    dim: int
    users: tuple[str, ...]
    index: Tensor  # (n, r) the positions of each unit along the dimension
    sizes: tuple[int, ...]  # what r is the product of: a head's width, a map's height and width
    samples: tuple[int, int] | None  # the dimension of samples, what is outer to them in it; None: nowhere
    constant: bool  # no input of the model has a part in it

    def rows(self, value: Tensor, batch: int) -> Tensor:
        """(n, S, ...) what the value holds of each unit and sample."""
        rest = len(self.sizes)
        units = value.index_select(self.dim, self.index.reshape(-1).to(value.device))
        units = torch.unflatten(units, self.dim, (len(self.index), *self.sizes))
        if self.samples is None:
            return units.movedim(self.dim, 0).unsqueeze(1)
        dim, outer = self.samples
        dim += rest if dim > self.dim else 0
        units = torch.unflatten(units, dim, (outer, batch, -1))
        return units.movedim((self.dim + (2 if dim < self.dim else 0), dim + 1), (0, 1))


def activity_points(
    graph: fx.GraphModule, analysis: Analysis, groups: Iterable[Group], keep: Keep
) -> dict[str, tuple[ActivityPoint, ...]]:
    """The points of each group, by its name; none where its units never leave an operator.

    A product of two values (queries and keys) takes each unit once, though both values have it: the first one counts.
    """
    computed = _computed(graph)
    samples = resolved(analysis.samples[0]) if analysis.samples else None
    batch = samples if isinstance(samples, Prime) else None  # None where a reshape has taken it apart
    return {group.name: tuple(_points(analysis, group, keep, computed, batch)) for group in groups}


def _points(
    analysis: Analysis, group: Group, keep: Keep, computed: set[str], batch: Axis | None
) -> Iterable[ActivityPoint]:
    chosen: dict[str, Contraction] = {}
    for each in analysis.contractions:
        if each.inputs is None or not holds(each.axis, group.prime):
            continue
        before = chosen.get(each.node)
        if before is None or (each.inputs in computed and before.inputs not in computed):
            chosen[each.node] = each
    users: dict[tuple[str, int], list[str]] = {}
    for node, each in chosen.items():
        assert each.inputs is not None
        users.setdefault((each.inputs, each.input_dim), []).append(node)
    for (node, dim), names in users.items():
        dims = analysis.values[node]
        assert dims is not None
        index, sizes = _positions(dims[dim], group.prime, keep)  # type: ignore[arg-type]
        samples = _samples(dims, dim, batch, keep)  # type: ignore[arg-type]
        yield ActivityPoint(node, dim, tuple(names), index, sizes, samples, node not in computed)


def _positions(axis: Axis, prime: Prime, keep: Keep) -> tuple[Tensor, tuple[int, ...]]:
    """(n, r) where each unit lies in what is left of the axis, and what r is the product of."""
    index = torch.from_numpy(unit_places(axis, prime, keep))
    parts = factors(axis)
    if any(part is prime for part in parts):
        counts = counted(keep)
        return index, tuple(length(part, counts) for part in parts if part is not prime)
    return index, (index.shape[1],)


def _samples(dims: Dims, dim: int, batch: Axis | None, keep: Keep) -> tuple[int, int] | None:
    """Where samples lie: in which dimension, and what is left of the factors before them in it."""
    for other, axis in enumerate(dims):
        parts = factors(axis)
        for at, part in enumerate(parts):
            if part is batch and other != dim:
                counts = counted(keep)
                return other, math.prod(length(each, counts) for each in parts[:at])
    return None


def _computed(graph: fx.GraphModule) -> set[str]:
    """Names of the nodes in which an input of the model has a part."""
    names: set[str] = set()
    for node in graph.graph.nodes:
        if node.op == "placeholder" or any(each.name in names for each in node.all_input_nodes):
            names.add(node.name)
    return names


Edge = tuple[str, str]
"""(node of a point, node that takes its units)"""


class EdgeInterpreter(fx.Interpreter):
    """Runs a graph whose tensors are constants but for `leaves`, and catches what crosses the edges.

    `seen` gets the value of each point once, as soon as it is there. Where it is `differentiable`, `crossed` keeps what
    went over each edge, each an alias of its own, whose gradient is of this one use.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        edges: set[Edge],
        seen: Callable[[str, Tensor], None],
        *,
        differentiable: bool,
        leaves: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(graph)
        self._leaves = leaves or {}
        self.crossed: dict[Edge, Tensor] = {}
        self._edges, self._seen, self._differentiable = edges, seen, differentiable
        self._shown: set[str] = set()

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        """A leaf of that name, or the tensor without the way back to it."""
        leaf = self._leaves.get(target)
        if leaf is not None:
            return leaf
        value = super().get_attr(target, args, kwargs)
        return value.detach() if isinstance(value, Tensor) else value

    def run_node(self, n: fx.Node) -> Any:
        """Gives a node that takes units its aliases in place of the values."""
        given = {each: self.env[each] for each in n.all_input_nodes if (each.name, n.name) in self._edges}
        for each, value in given.items():
            if each.name not in self._shown:
                self._shown.add(each.name)
                self._seen(each.name, value.detach())
            if self._differentiable:
                alias = value.view_as(value) if value.requires_grad else value.detach().requires_grad_()
                self.crossed[each.name, n.name] = self.env[each] = alias
        try:
            return super().run_node(n)
        finally:
            self.env.update(given)
