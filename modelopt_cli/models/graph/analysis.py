"""Axes for every value of a captured network, and which slices of which tensors stand or fall together."""

from __future__ import annotations

import copy
import operator
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from torch import Tensor, fx

from modelopt_cli.models.duplicates import memory_of
from modelopt_cli.models.graph.axes import Axis, Clash, Prime, primes
from modelopt_cli.models.graph.call import Call, Dims, GraphAxes, Result, hint, module_path
from modelopt_cli.models.graph.gains import Weights, settle
from modelopt_cli.models.graph.operators import operator_of

INPUT = "an input of the model"
OUTPUT = "an output of the model"


class Analysis(GraphAxes):
    """The axes of a captured network, found by visiting every node of its graph in order.

    `module` is what the graph's tensors are read from, `nodes` the graph's. A copy of the graph with the same names can
    be rewritten by it.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module.graph)
        self.samples: list[Axis] = []  # the first dimension of each input
        self.unknown: Counter[str] = Counter()  # operators without a rule
        self.clashes: list[str] = []  # why the nodes in `opaque` are left alone
        self.macs: list[tuple[str, Sequence[Axis]]] = []  # node, the axes whose sizes multiply to its MACs
        self._of_memory: dict[tuple[object, ...], str] = {}
        for node in module.graph.nodes:
            self._visit(module, node)
        self._settle(module)

    def _visit(self, module: fx.GraphModule, node: fx.Node) -> None:
        if node.op == "placeholder":
            value = node.meta.get("val")
            dims = self._new(value, INPUT) if isinstance(value, Tensor) else None
            self.values[node.name] = dims
            self.samples += (dims or [])[:1]
        elif node.op == "get_attr":
            self._attribute(node, attribute(module, str(node.target)))
        elif node.op == "output":
            for value in node.all_input_nodes:
                self._freeze_all(value, OUTPUT)
        elif node.op == "call_function":
            self._call(node)

    def _settle(self, module: fx.GraphModule) -> None:
        """Tell what is computed over weights from what is computed over what units give."""
        given = (self.values.get(node.name) for node in module.graph.nodes if node.name not in self.static)
        self.active = {prime for dims in given for axis in flat(dims) for prime in primes(axis)}
        self.contractions = [
            each
            for each in self.contractions
            if each.node not in self.static or self.active.isdisjoint(primes(each.axis))
        ]
        self.weights = Weights(duplicate(module).nodes if self.weight_statistics else (), self)
        tensors = {name: attribute(module, name).detach() for name, _ in self.own_tensors()}
        self.gains = settle(module, self, self.weights, tensors)

    def _attribute(self, node: fx.Node, tensor: Any) -> None:
        if not isinstance(tensor, Tensor):
            return
        name = str(node.target)
        first = self._of_memory.setdefault(memory_of(tensor), name)
        self.first[name] = first
        if first not in self.tensors:
            self.tensors[first] = self._new(tensor)
        self.tensors[name] = self.tensors[first]
        self.values[node.name] = list(self.tensors[name])

    def _call(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            values = self.values.get(node.args[0].name) if isinstance(node.args[0], fx.Node) else None
            self.values[node.name] = values[node.args[1]] if values else None  # type: ignore[index,assignment]
            return
        value = node.meta.get("val")
        if not isinstance(value, Tensor | list | tuple):
            self.values[node.name] = None  # a symbolic size, or nothing
            return
        call, known = Call(node, self), operator_of(node.target)
        try:
            if known is None:
                raise Clash("it is not known")
            with self.axes.trial():
                result = known.rule(call)
                _check(node, result)
        except (Clash, ValueError, IndexError, TypeError) as error:
            result = self._opaque(node, str(error))
        self.values[node.name] = result
        if known is not None and known.macs is not None:
            with suppress(Clash):
                self.macs += [(node.name, axes) for axes in known.macs(call)]

    def _opaque(self, node: fx.Node, why: str) -> Result:
        """Nothing is guessed: all that the operator touches stays as it is."""
        self.opaque.add(node.name)
        name = str(node.target).removeprefix("aten.")
        if why == "it is not known":
            self.unknown[name] += 1
        self.clashes.append(f"{node.name} ({name}) in {module_path(node) or 'the model'}: {why}")
        reason = f"operator {name}: {why}"
        for given in node.all_input_nodes:
            self._freeze_all(given, reason)
        value = node.meta["val"]
        if isinstance(value, Tensor):
            return self._new(value, reason)
        return [self._new(each, reason) if isinstance(each, Tensor) else None for each in value]

    def _new(self, value: Tensor, *frozen: str) -> Dims:
        return [self.axes.prime(hint(size), *frozen) for size in value.shape]

    def _freeze_all(self, node: fx.Node, reason: str) -> None:
        for axis in flat(self.values.get(node.name)):
            self.axes.freeze(axis, reason)

    def needed_by_gains(self) -> list[str]:
        """First names of the tensors that weights with a gain are computed from."""
        return list(dict.fromkeys(name for gain in self.gains for name in self.weights.tensors(gain.node)))

    def consumed(self) -> Mapping[tuple[str, int], set[Prime]]:
        """(tensor, dim) -> the primes in it that are summed over."""
        summed: dict[tuple[str, int], set[Prime]] = {}
        for each in self.contractions:
            if each.tensor is not None:
                summed.setdefault((each.tensor, each.dim), set()).update(primes(each.axis))
        for gain in self.gains:  # of weights that are computed, the tensors that they are computed from
            taken = [each for each in self.contractions if each.operand == gain.node]
            shared = gain.primes.intersection(prime for each in taken for prime in primes(each.axis))
            for name in self.weights.tensors(gain.node) if shared else ():
                for dim, axis in enumerate(self.tensors[name]):
                    summed.setdefault((name, dim), set()).update(shared.intersection(primes(axis)))
        return summed


def duplicate(graph: fx.GraphModule) -> fx.Graph:
    """A copy of its nodes, with the same names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, from its pytrees
        return copy.deepcopy(graph.graph)


def attribute(module: Any, path: str) -> Any:
    """The parameter, buffer or constant at a dotted path."""
    for part in path.split("."):
        module = getattr(module, part)
    return module


def _check(node: fx.Node, result: Any) -> None:
    """Raises Clash where a rule gives another number of results, or other sizes, than there are."""
    value = node.meta["val"]
    if isinstance(value, Tensor):
        value, result = [value], [result]
    for each, dims in zip(value, result, strict=True):
        sizes = [hint(size) for size in each.shape] if isinstance(each, Tensor) else []
        if dims is not None and [axis.size for axis in dims] != sizes:
            raise Clash(f"its result has sizes {sizes}, not {[axis.size for axis in dims]}")


def flat(values: Result) -> Iterator[Axis]:
    """All axes of a node's value, be it one tensor or several."""
    for each in values or ():
        if isinstance(each, list):
            yield from each
        elif each is not None:
            yield each
