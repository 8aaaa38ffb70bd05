"""What an operator's rule and its rewriter work with: one node of a graph, its arguments, and the axes of the graph.

A rule says which axes the result has, and thereby which axes are one. The rewriter of the same operator writes the new
sizes into the node's arguments once units have been taken out. Both stand together, in operators/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from modelopt_cli.models.graph.axes import Axis, Clash, Mask, Prime, kept, primes
from modelopt_cli.models.graph.unification import Axes

Dims = list[Axis]
"""One axis for each dimension of a tensor."""
Result = Dims | list["Dims | None"] | None
"""Of a tensor, of several (an operator with several results), of what is none."""


@dataclass(frozen=True)
class Operator:
    """How one operator carries axes through. `macs`: the axes whose sizes multiply to its multiply-accumulates."""

    rule: Callable[[Call], Any]
    rewrite: Callable[[Rewrite], None] | None = None
    macs: Callable[[Call], Iterable[Sequence[Axis]]] | None = None


def hint(size: Any) -> int:
    """A size as the example had it: the hint of a symbolic one."""
    if isinstance(size, int):
        return size
    node = size.node
    known = getattr(node, "hint", None)
    return int(known if known is not None else node.shape_env.size_hint(node.expr))


def shape_of(node: fx.Node) -> list[int] | None:
    """The sizes of the node's value in the example; None for what is no tensor."""
    value = node.meta.get("val")
    return [hint(size) for size in value.shape] if isinstance(value, Tensor) else None


@dataclass(frozen=True)
class Contraction:
    """A node that sums over an axis, so that what is silent adds nothing: most often products with a weight."""

    node: str
    axis: Axis
    tensor: str | None  # the weight; None: the sum is over values alone (attention's products)
    dim: int  # of the weight
    inputs: str | None  # the node whose value is summed over; None: what a recurrent layer keeps to itself
    input_dim: int
    operand: str | None = None  # the node that is multiplied with the inputs; None: they are summed up by themselves


@dataclass(frozen=True)
class WeightStatistic:
    """A node that computes something over an axis of weights. `product`: it sums products of two tensors."""

    node: str
    axis: Axis
    what: str
    product: bool = False


class GraphAxes:
    """The axes of every value of a graph, and what rules have noted. Values and notes go by the nodes' names."""

    def __init__(self, graph: fx.Graph) -> None:
        self.axes = Axes()
        self.values: dict[str, Result] = {}
        self.notes: dict[tuple[str, str], Axis] = {}
        self.tensors: dict[str, Dims] = {}  # of parameters, buffers and constants, by name
        self.first: dict[str, str] = {}  # name -> the first name of the same memory
        self.contractions: list[Contraction] = []
        self.normalized: set[tuple[str, int]] = set()  # tensor, dimension: slices that must not be zero
        self.opaque: set[str] = set()  # nodes that no rule could be applied to: nothing that they touch changes
        self.static = _static(graph)  # nodes of weights alone: no input takes part in what they give
        self.active: set[Prime] = set()  # of what inputs take part in
        self.weight_statistics: list[WeightStatistic] = []

    def contract(self, node: fx.Node, axis: Axis | None, weight: Any, dim: int, inputs: Any, input_dim: int) -> None:
        """See Call.consumes. Without an axis: the whole dimension of the weight."""
        dims = self.values.get(weight.name) if isinstance(weight, fx.Node) else None
        summed = axis if axis is not None or dims is None else dims[dim]
        if summed is None or isinstance(summed, list):
            return
        tensor = self.first[str(weight.target)] if isinstance(weight, fx.Node) and weight.op == "get_attr" else None
        source = inputs.name if isinstance(inputs, fx.Node) else None
        operand = weight.name if isinstance(weight, fx.Node) else None
        self.contractions.append(Contraction(node.name, summed, tensor, dim, source, input_dim, operand))
        if node.name in self.static:
            what = f"a sum of weights in {module_path(node) or 'the model'}"
            self.weight_statistics.append(WeightStatistic(node.name, summed, what, operand is not None))

    def shift(self, node: fx.Node, axis: Axis, what: str) -> None:
        """See Call.shift. What is computed over weights alone, a gain may make up for: that is seen in the end."""
        if node.name in self.static:
            self.weight_statistics.append(WeightStatistic(node.name, axis, what))
        else:
            self.axes.shift(axis, what)

    def own_tensors(self) -> Iterator[tuple[str, Dims]]:
        """Names and axes; tied tensors once."""
        return ((name, dims) for name, dims in self.tensors.items() if self.first[name] == name)


def _static(graph: fx.Graph) -> set[str]:
    """Names of the nodes that no input of the model takes part in."""
    static: set[str] = set()
    for node in graph.nodes:
        if node.op not in ("placeholder", "output") and all(each.name in static for each in node.all_input_nodes):
            static.add(node.name)
    return static


class _Node:
    """Reads a node's arguments."""

    def __init__(self, node: fx.Node, analysis: GraphAxes) -> None:
        self.node, self.analysis = node, analysis

    def argument(self, position: int, name: str = "", default: Any = None) -> Any:
        """A positional argument, or the keyword, or the default."""
        if len(self.node.args) > position:
            return self.node.args[position]
        return self.node.kwargs.get(name, default)

    def dims(self, value: Any) -> Dims | None:
        """The axes of an argument; None when it is no tensor."""
        axes = self.analysis.values.get(value.name) if isinstance(value, fx.Node) else None
        return axes if axes is None or not axes or not isinstance(axes[0], list) else None  # type: ignore[return-value]

    def tensor(self, position: int, name: str = "") -> Dims:
        """The axes of an argument that must be a tensor. Raises Clash."""
        dims = self.dims(self.argument(position, name))
        if dims is None:
            raise Clash("an argument that is no tensor")
        return dims

    def number(self, value: Any) -> int:
        """An integer argument, also a symbolic one (as in the example)."""
        return hint(value.meta["val"]) if isinstance(value, fx.Node) else hint(value)

    @property
    def shape(self) -> list[int]:
        """Sizes of the result."""
        sizes = shape_of(self.node)
        if sizes is None:
            raise Clash("a result that is no tensor")
        return sizes

    @property
    def path(self) -> str:
        """The module that the node belongs to."""
        return module_path(self.node)


class Call(_Node):
    """A node while its rule is applied."""

    def unify(self, one: Axis, other: Axis) -> None:
        """The two are the same axis. Raises Clash."""
        self.analysis.axes.unify(one, other)

    def split(self, axis: Axis, outer: int) -> tuple[Axis, Axis]:
        """(outer, rest) factors of the axis. Raises Clash."""
        return self.analysis.axes.split(axis, outer)

    def cut(self, axis: Axis, places: Sequence[int]) -> list[Axis]:
        """Pieces between these places. Raises Clash."""
        return self.analysis.axes.cut(axis, places)

    def freeze(self, axis: Axis, reason: str) -> None:
        """No unit of it can go."""
        self.analysis.axes.freeze(axis, reason)

    def shift(self, axis: Axis, what: str) -> None:
        """`what` is computed over it, and changes with the units that there are."""
        self.analysis.shift(self.node, axis, f"{what} in {self.path or 'the model'}")

    def new(self, size: int, *frozen: str) -> Prime:
        """A new axis."""
        return self.analysis.axes.prime(size, *frozen)

    def new_dims(self, *frozen: str) -> Dims:
        """New axes for the result."""
        return [self.new(size, *frozen) for size in self.shape]

    def note(self, name: str, axis: Axis) -> None:
        """Keep an axis that the rewriter needs."""
        self.analysis.notes[self.node.name, name] = axis

    def normalized(self, weight: Any, dim: int) -> None:
        """Slices of the weight along `dim` are divided by their norms, so that none may be zero."""
        if isinstance(weight, fx.Node) and weight.op == "get_attr":
            self.analysis.normalized.add((self.analysis.first[str(weight.target)], dim))

    def consumes(self, weight: Any, dim: int, inputs: Any, input_dim: int, axis: Axis | None = None) -> None:
        """The products with `weight` sum over `axis` (its whole dimension `dim`), which `inputs` has at `input_dim`."""
        self.analysis.contract(self.node, axis, weight, dim, inputs, input_dim)

    def contracts(self, axis: Axis, inputs: Any, input_dim: int) -> None:
        """A sum over the values of `inputs` runs along the axis: what is silent adds nothing."""
        self.analysis.contract(self.node, axis, None, 0, inputs, input_dim)

    def broadcast(self, sizes: Sequence[int], inputs: Iterable[Dims]) -> Dims:
        """Axes of a result to which inputs are broadcast, aligned at their last dimensions."""
        axes: list[Axis | None] = [None] * len(sizes)
        for dims in inputs:
            for back in range(1, len(dims) + 1):
                if back <= len(sizes) and dims[-back].size == sizes[-back]:
                    before = axes[-back]
                    if before is None:
                        axes[-back] = dims[-back]
                    else:
                        self.unify(before, dims[-back])
        return [axis if axis is not None else self.new(size) for axis, size in zip(axes, sizes, strict=True)]


class Rewrite(_Node):
    """A node of a copy of the graph, while its arguments are made to fit the units that stay."""

    def __init__(self, node: fx.Node, analysis: GraphAxes, keep: Mapping[Prime, Mask]) -> None:
        super().__init__(node, analysis)
        self.keep = keep

    def mask(self, axis: Axis) -> Mask:
        """Which positions of the axis stay."""
        return kept(axis, self.keep)

    def size(self, axis: Axis) -> int:
        """How many positions of the axis stay."""
        return int(self.mask(axis).sum())

    def changed(self, axis: Axis) -> bool:
        """Whether some unit in it goes."""
        return any(prime in self.keep for prime in primes(axis)) and not bool(self.mask(axis).all())

    def noted(self, name: str) -> Axis:
        """What the rule kept."""
        return self.analysis.notes[self.node.name, name]

    def results(self) -> Any:
        """The axes of the node's own value."""
        return self.analysis.values[self.node.name]

    def set(self, position: int, value: Any, name: str = "") -> None:
        """Set an argument where it stands: by position, or as a keyword."""
        if len(self.node.args) > position:
            self.node.update_arg(position, value)
        elif name:
            self.node.update_kwarg(name, value)


def module_path(node: fx.Node) -> str:
    """The path of the innermost module that made the node; "" for the outermost."""
    return module_paths(node)[0]


def module_paths(node: fx.Node) -> tuple[str, ...]:
    """Of the modules that made the node, the innermost first; the outermost is ""."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    paths = [str(entry[0]).removeprefix("L['self']").removeprefix(".").partition("@")[0] for entry in stack]
    return (*dict.fromkeys(reversed(paths)), *(() if "" in paths else ("",)))


def overload(name: str) -> torch._ops.OpOverload | None:
    """`add.Tensor` in aten; None where this torch has it not."""
    packet, _, which = name.partition(".")
    operator = getattr(torch.ops.aten, packet, None)
    return getattr(operator, which, None) if operator is not None and which in operator.overloads() else None


def table(operator: Operator, *names: str) -> dict[Any, Operator]:
    """The operator under each of these overloads that this torch has."""
    return {target: operator for name in names if (target := overload(name)) is not None}
