"""The sizes written in a captured graph: which of them change with which units, and in which module they were made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import fx

from modelopt_cli.models.graph.analysis import Analysis, duplicate, flat
from modelopt_cli.models.graph.axes import Axis, Keep, Prime, factors, kept, primes
from modelopt_cli.models.graph.call import Dims, Rewrite, module_paths
from modelopt_cli.models.graph.operators import operator_of

_LARGEST = 2**31  # above: an open end of a slice


_Number = tuple[str, int, int]
"""Position among the arguments, the number before and after some units were taken out."""


@dataclass(frozen=True)
class Constant:
    """A number in the arguments of a node."""

    node: str
    position: str  # of the argument; of a size that is computed, also the factor
    old: int
    paths: tuple[str, ...]  # of the modules that were running, the innermost first
    operator: str
    line: str  # of the code, where known


@dataclass(frozen=True)
class _Writer:
    node: fx.Node
    rewrite: Callable[[Rewrite], None]
    primes: frozenset[Prime]


class Constants:
    """Tells what the rewriters would write, without tensors: on a copy of the graph that is put back each time."""

    def __init__(self, graph: fx.GraphModule, analysis: Analysis) -> None:
        self.analysis = analysis
        self._scratch = duplicate(graph)
        self._writers = list(self._found())

    def _found(self) -> Iterator[_Writer]:
        noted: dict[str, list[Axis]] = {}
        for (name, _), axis in self.analysis.notes.items():
            noted.setdefault(name, []).append(axis)
        for node in self._scratch.nodes:
            operator = operator_of(node.target) if node.op == "call_function" else None
            if node.name in self.analysis.opaque:
                continue
            if operator is not None and operator.rewrite is not None and node.name in self.analysis.values:
                axes = [*noted.get(node.name, [])]
                for each in (node, *node.all_input_nodes):
                    axes += flat(self.analysis.values.get(each.name))
                yield _Writer(node, operator.rewrite, frozenset(prime for axis in axes for prime in primes(axis)))

    def changed(self, keep: Keep) -> dict[Constant, int]:
        """Constants that change when units go -> what they become. Raises UnwritableError."""
        sizes: dict[Constant, int] = {}
        going = {prime for prime, mask in keep.items() if not mask.all()}
        for writer in self._writers:
            if writer.primes.isdisjoint(going):
                continue
            node = writer.node
            target, args, kwargs = node.target, node.args, node.kwargs
            try:
                writer.rewrite(Rewrite(node, self.analysis, keep))
                after = node.args
                node.target, node.args, node.kwargs = target, args, kwargs
                sizes.update(self._compared(node, after, keep))
            finally:
                node.target, node.args, node.kwargs = target, args, kwargs
        return sizes

    def pins(self, keep: Keep) -> str | None:
        """The module whose attention takes its scale from the width of a head, which changes; None: there is none."""
        for writer in self._writers:
            width = self.analysis.notes.get((writer.node.name, "width"))
            if width is None or writer.node.kwargs.get("scale") is not None:
                continue
            if not kept(width, keep).all():
                return module_paths(writer.node)[0]
        return None

    def _compared(self, node: fx.Node, after: tuple[Any, ...], keep: Keep) -> Iterator[tuple[Constant, int]]:
        """The node's constants that change, by the arguments that its rewriter has made, and what they become."""
        name = str(node.target).removeprefix("aten.")
        for position, old, new in self._numbers(name, node, after, keep):
            if old != new and 1 <= old < _LARGEST:
                yield Constant(node.name, position, old, module_paths(node), name, _line(node)), new

    def _numbers(self, name: str, node: fx.Node, after: tuple[Any, ...], keep: Keep) -> Iterator[_Number]:
        if name.startswith("slice."):
            yield from self._slice(node, after, keep)
            return
        if name.split(".")[0] in ("chunk", "split", "tensor_split") and isinstance(node.args[1], int):
            if after == node.args:
                return  # another dimension than the one that is split
            dim = after[2]
            pieces: Any = self.analysis.values[node.name]
            for number, dims in enumerate(pieces):
                yield f"piece {number}", dims[dim].size, int(after[1][number])
            return
        before, now = dict(_numbered(node.args)), dict(_numbered(after))
        for position, old in before.items():
            new = now.get(position)
            if isinstance(old, int) and isinstance(new, int):
                yield position, old, new
            elif isinstance(old, fx.Node) and new == -1:
                yield from self._computed(node, position, keep)

    def _slice(self, node: fx.Node, after: tuple[Any, ...], keep: Keep) -> Iterator[_Number]:
        """Bounds; one that counts from the end is given as the number that the code subtracts."""
        source = node.args[0]
        axis = self.analysis.values[source.name][node.args[1]] if isinstance(source, fx.Node) else None  # type: ignore
        for position in (2, 3):
            old = node.args[position] if len(node.args) > position else None
            new = after[position] if len(after) > position else None
            if not isinstance(old, int) or not isinstance(new, int):
                continue
            if old < 0 and axis is not None:  # one that was not written anew still counts from the end
                old, new = -old, -new if new < 0 else int(kept(axis, keep).sum()) - new  # type: ignore[arg-type]
            yield str(position), old, new

    def _computed(self, node: fx.Node, position: str, keep: Keep) -> Iterator[_Number]:
        """Batch size x heads: the number of heads, and of all factors that change together."""
        listed, _, index = position.partition(".")
        given: Any = node.args[int(listed)]
        dims: Dims = self.analysis.values[node.name][-len(given) :]  # type: ignore[index,assignment]
        parts = [axis for axis in factors(dims[int(index)]) if not kept(axis, keep).all()]
        sizes = [(axis.size, int(kept(axis, keep).sum())) for axis in parts]
        for number, (old, new) in enumerate(sizes):
            yield f"{position}, factor {number}", old, new
        if len(sizes) > 1:
            whole, left = (math.prod(column) for column in zip(*sizes, strict=True))
            yield f"{position}, factors", whole, left


def _numbered(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for index, value in enumerate(values):
        if isinstance(value, list | tuple):
            yield from _numbered(value, f"{prefix}{index}.")
        elif (isinstance(value, int) and not isinstance(value, bool)) or isinstance(value, fx.Node):
            yield f"{prefix}{index}", value


def _line(node: fx.Node) -> str:
    lines = [line.strip() for line in str(node.meta.get("stack_trace") or "").splitlines() if line.strip()]
    numbers = [number for number, line in enumerate(lines) if line.startswith("File ") and "/torch/" not in line]
    if not numbers:
        return ""
    number = numbers[-1]
    where = lines[number].split(", in ")[0].removeprefix("File ").replace('"', "").replace(", line ", ":")
    where = where.rpartition("/")[2]
    return f"{where}: {lines[number + 1]}" if number + 1 < len(lines) else where
