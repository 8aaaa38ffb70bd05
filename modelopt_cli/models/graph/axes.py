"""The algebra of axes: what a tensor's dimension is made of.

A dimension is a *prime* axis, a product (heads x head width, channels x positions, the first factor outermost) or a sum
(a concatenation). Primes that turn out to be the same are bound to each other, and a prime that turns out to be made of
parts is bound to their product or sum: union-find with structure. In the end, the primes that are bound to nothing are
what can be taken out: unit u of one stands or falls with unit u wherever the prime occurs.

Here they are made of each other and read; unification.py finds out which are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


class Clash(Exception):  # noqa: N818  (no error of the user's: it is caught where the operator is visited)
    """Two axes cannot be the same."""


class Prime:
    """An axis that is not known to be made of others. `frozen` and `shifts` belong to the prime it is bound to."""

    __slots__ = ("bound", "frozen", "number", "shifts", "size")

    def __init__(self, size: int, number: int) -> None:
        self.size, self.number = size, number
        self.bound: Axis | None = None
        self.frozen: frozenset[str] = frozenset()  # why its units cannot be taken out
        self.shifts: frozenset[str] = frozenset()  # what is computed over all of its units, and so changes without some

    def __repr__(self) -> str:
        return f"p{self.number}[{self.size}]" if self.bound is None else repr(self.bound)


@dataclass(frozen=True, eq=False)
class Product:
    """Factors, the outermost first. Without any: an axis of size 1."""

    factors: tuple[Axis, ...]

    @property
    def size(self) -> int:
        """Product of the factors' sizes."""
        return math.prod(each.size for each in self.factors)

    def __repr__(self) -> str:
        return "(" + " * ".join(map(repr, self.factors)) + ")"


@dataclass(frozen=True, eq=False)
class Sum:
    """Terms, one behind the other. Without any: an axis of size 0."""

    terms: tuple[Axis, ...]

    @property
    def size(self) -> int:
        """Sum of the terms' sizes."""
        return sum(each.size for each in self.terms)

    def __repr__(self) -> str:
        return "(" + " + ".join(map(repr, self.terms)) + ")"


Axis = Prime | Product | Sum
INTERLEAVED = "interleaved with an order that it does not divide"
ONE = Product(())
Keep = Mapping[Prime, Mask]
"""Of primes that have lost units, (size,) True where one stays."""


def resolved(axis: Axis) -> Axis:
    """What a bound prime stands for."""
    while isinstance(axis, Prime) and axis.bound is not None:
        axis = axis.bound
    return axis


def factors(axis: Axis) -> list[Axis]:
    """Factors that are no products themselves; none for an axis of size 1."""
    axis = resolved(axis)
    if isinstance(axis, Product):
        return [factor for each in axis.factors for factor in factors(each)]
    return [] if axis.size == 1 else [axis]


def terms(axis: Axis) -> list[Axis]:
    """Terms that are no sums themselves."""
    axis = resolved(axis)
    if isinstance(axis, Sum):
        return [term for each in axis.terms for term in terms(each)]
    if isinstance(axis, Product):
        inner = factors(axis)
        if len(inner) == 1 and isinstance(inner[0], Sum):
            return terms(inner[0])
    return [axis]


def product(parts: Sequence[Axis]) -> Axis:
    """The flat product of the parts."""
    flat = [factor for each in parts for factor in factors(each)]
    return flat[0] if len(flat) == 1 else Product(tuple(flat))


def total(parts: Sequence[Axis]) -> Axis:
    """The flat sum of the parts; parts of size 0 are left out."""
    flat = [term for each in parts for term in terms(each) if term.size > 0]
    return flat[0] if len(flat) == 1 else Sum(tuple(flat))


def primes(axis: Axis) -> Iterator[Prime]:
    """The unbound primes in it, in order; one that occurs twice comes twice."""
    axis = resolved(axis)
    if isinstance(axis, Prime):
        yield axis
        return
    for each in axis.factors if isinstance(axis, Product) else axis.terms:
        yield from primes(each)


def length(axis: Axis, counts: Mapping[Prime, int]) -> int:
    """The size of the axis when this many units of each prime are left (of a prime without an entry: all)."""
    axis = resolved(axis)
    if isinstance(axis, Prime):
        return counts.get(axis, axis.size)
    if isinstance(axis, Product):
        return math.prod(length(each, counts) for each in axis.factors)
    return sum(length(each, counts) for each in axis.terms)


def kept(axis: Axis, keep: Keep) -> Mask:
    """(size,) True where a position stays, when of each prime these units stay (of one without an entry: all)."""
    axis = resolved(axis)
    if isinstance(axis, Prime):
        return keep[axis] if axis in keep else np.ones(axis.size, dtype=np.bool_)
    if isinstance(axis, Sum):
        parts = [kept(each, keep) for each in axis.terms]
        return np.concatenate(parts) if parts else np.ones(0, dtype=np.bool_)
    mask = np.ones(1, dtype=np.bool_)
    for each in axis.factors:
        mask = np.outer(mask, kept(each, keep)).reshape(-1)
    return mask


def owners(axis: Axis, prime: Prime) -> NDArray[np.int64]:
    """(size,) the unit of `prime` that each position belongs to; -1: to none."""
    axis = resolved(axis)
    if isinstance(axis, Prime):
        return np.arange(axis.size) if axis is prime else np.full(axis.size, -1)
    if isinstance(axis, Sum):
        parts = [owners(each, prime) for each in axis.terms]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
    units = np.full(1, -1)
    for each in axis.factors:
        units = np.maximum(units[:, None], owners(each, prime)[None, :]).reshape(-1)
    return units


def holds(axis: Axis, prime: Prime) -> bool:
    """Whether the prime is in it."""
    return any(each is prime for each in primes(axis))


def counted(keep: Keep) -> dict[Prime, int]:
    """Units that stay of each."""
    return {prime: int(mask.sum()) for prime, mask in keep.items()}


def unit_places(axis: Axis, prime: Prime, keep: Keep) -> NDArray[np.int64]:
    """(units of the prime that stay, r) where each of them lies in what `keep` leaves of the axis."""
    owner = owners(axis, prime)[kept(axis, keep)]
    order = np.argsort(owner, kind="stable")
    order = order[owner[order] >= 0]
    return order.reshape(int(keep[prime].sum()) if prime in keep else prime.size, -1)
