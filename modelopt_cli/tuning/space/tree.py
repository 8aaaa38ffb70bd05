"""The tree that a search space is: parameters, and under each branch of a choice the parameters that count with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.tuning.space.parameters import Choice, Parameter
from modelopt_cli.tuning.trials.trial import Params

Where = tuple[str | int, ...]


class SpaceError(UsageError, ValueError):
    """A search space that cannot be. `where` is the position inside the mapping; `message` the text without it."""

    def __init__(self, message: str, where: Where = ()) -> None:
        super().__init__(f"{where[0]}: {message}" if where else message)
        self.message = message
        self.where = where

    def __reduce__(self) -> tuple[type[SpaceError], tuple[str, Where]]:
        return SpaceError, (self.message, self.where)


@dataclass(frozen=True)
class Node:
    """A parameter with the nodes that count under each of its branches (one per value of a choice, else none)."""

    parameter: Parameter
    where: Where
    branches: tuple[tuple[Node, ...], ...] = ()

    @cached_property
    def size(self) -> int | float:
        """Number of distinct settings of this parameter and what counts under it; inf when continuous."""
        own = self.parameter.size
        return sum(math.prod(node.size for node in branch) for branch in self.branches) if self.branches else own

    @cached_property
    def grid_size(self) -> int | float:
        """Number of points of a grid over this parameter and what counts under it."""
        own = self.parameter.grid_size
        return sum(math.prod(node.grid_size for node in branch) for branch in self.branches) if self.branches else own

    def uncounted(self) -> Node:
        """The same without any `count`."""
        branches = tuple(tuple(node.uncounted() for node in branch) for branch in self.branches)
        return Node(self.parameter.uncounted(), self.where, branches)

    def walk(self) -> Iterator[Node]:
        """This node and all below it, parents before children."""
        yield self
        for branch in self.branches:
            for node in branch:
                yield from node.walk()


def walk(roots: Sequence[Node], pick: Callable[[int, Parameter], Any]) -> Params:
    """The setting whose active parameters have the values that `pick(position, parameter)` gives.

    The position counts all parameters of the tree, parents before children.
    """
    params: Params = {}

    def visit(nodes: Sequence[Node], position: int, active: bool) -> int:
        for node in nodes:
            taken = None
            if active:
                value = pick(position, node.parameter)
                params[node.parameter.path] = value
                taken = node.parameter.index(value) if isinstance(node.parameter, Choice) else None
            position += 1
            for index, branch in enumerate(node.branches):
                position = visit(branch, position, active and index == taken)
        return position

    visit(roots, 0, True)
    return params


def spans(roots: Sequence[Node]) -> dict[int, list[tuple[int, int]]]:
    """Position of a choice -> for each branch, the positions at which everything below it starts and stops."""
    spans_of: dict[int, list[tuple[int, int]]] = {}

    def visit(nodes: Sequence[Node], position: int) -> int:
        for node in nodes:
            own, position = position, position + 1
            for branch in node.branches:
                start = position
                position = visit(branch, position)
                spans_of.setdefault(own, []).append((start, position))
        return position

    visit(roots, 0)
    return spans_of


def grid_point(nodes: Sequence[Node], index: int) -> Params:
    """The grid's point `index`: its digits in a mixed radix, the last node's being the fastest."""
    digits: list[int] = []
    for node in reversed(nodes):
        index, digit = divmod(index, int(node.grid_size))
        digits.append(digit)
    params: Params = {}
    for node, digit in zip(nodes, reversed(digits), strict=True):
        own, branch = digit, 0
        for branch, below in enumerate(node.branches):  # noqa: B007
            size = int(math.prod(child.grid_size for child in below))
            if own < size:
                break
            own -= size
        params[node.parameter.path] = node.parameter.grid_value(branch if node.branches else digit)
        if node.branches:
            params |= grid_point(node.branches[branch], own)
    return params
