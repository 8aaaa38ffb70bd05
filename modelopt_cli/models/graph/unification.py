"""Unification of axes: union-find with structure, in trials that can be taken back.

`Axes.trial()` undoes every binding and mark since it began when it ends in a Clash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from modelopt_cli.models.graph.axes import (
    INTERLEAVED,
    ONE,
    Axis,
    Clash,
    Prime,
    Product,
    Sum,
    factors,
    primes,
    product,
    resolved,
    terms,
    total,
)


class Axes:
    """All axes of a graph: makes primes, binds and marks them, and can take back what a trial did."""

    def __init__(self) -> None:
        self._made = 0
        self._undo: list[Callable[[], None]] = []

    def prime(self, size: int, *frozen: str) -> Prime:
        """A new one."""
        self._made += 1
        prime = Prime(size, self._made)
        prime.frozen = frozenset(frozen)
        return prime

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Undo everything when the block raises Clash, and pass it on."""
        start = len(self._undo)
        try:
            yield
        except Clash:
            while len(self._undo) > start:
                self._undo.pop()()
            raise

    def freeze(self, axis: Axis, reason: str) -> None:
        """No unit of the axis may be taken out."""
        for prime in primes(axis):
            self._mark(prime, prime.frozen | {reason}, prime.shifts)

    def shift(self, axis: Axis, what: str) -> None:
        """What is computed over the axis changes when units are taken out, even units that are silent."""
        for prime in primes(axis):
            self._mark(prime, prime.frozen, prime.shifts | {what})

    def unify(self, one: Axis, other: Axis) -> None:
        """From here on they are the same. Raises Clash, with some of the work done: call it in a trial."""
        one, other = resolved(one), resolved(other)
        if one is other:
            return
        if one.size != other.size:
            raise Clash(f"sizes {one.size} and {other.size}")
        if one.size == 1:
            return
        if isinstance(one, Prime):
            self._bind(one, other)
            return
        if isinstance(other, Prime):
            self._bind(other, one)
            return
        if len(factors(one)) == 1 and isinstance(one, Product):
            self.unify(factors(one)[0], other)
        elif len(factors(other)) == 1 and isinstance(other, Product):
            self.unify(one, factors(other)[0])
        elif isinstance(one, Sum) or isinstance(other, Sum):
            self._unify_sums(one, other)
        else:
            self._unify_products(factors(one), factors(other))

    def _unify_sums(self, one: Axis, other: Axis) -> None:
        borders: set[int] = set()
        for axis in (one, other):
            border = 0
            for term in terms(axis):
                border += term.size
                borders.add(border)
        inner = sorted(borders)[:-1]
        if not inner:
            self.unify(terms(one)[0], terms(other)[0])
            return
        for left, right in zip(self.cut(one, inner), self.cut(other, inner), strict=True):
            self.unify(left, right)

    def _unify_products(self, some: list[Axis], others: list[Axis]) -> None:
        while some and others:
            one, other = resolved(some.pop(0)), resolved(others.pop(0))
            if one.size == other.size:
                self.unify(one, other)
                continue
            if one.size < other.size:
                one, other, some, others = other, one, others, some
            head, tail = self.split(product([one, *some]), other.size)
            self.unify(head, other)
            some = factors(tail)

    def split(self, axis: Axis, outer: int) -> tuple[Axis, Axis]:
        """The axis as a product of an axis of size `outer` and the rest. Raises Clash where it is none."""
        axis = resolved(axis)
        if outer < 1 or axis.size % outer:
            raise Clash(f"{axis.size} is no multiple of {outer}")
        inner = axis.size // outer
        if outer == 1:
            return ONE, axis
        if inner == 1:
            return axis, ONE
        if isinstance(axis, Prime):
            head, tail = self.prime(outer), self.prime(inner)
            self._bind(axis, Product((head, tail)))
            return head, tail
        if isinstance(axis, Sum):
            return self._split_sum(axis, inner)
        return self._split_product(axis, outer)

    def _split_sum(self, axis: Sum, inner: int) -> tuple[Axis, Axis]:
        heads: list[Axis] = []
        tail: Axis | None = None
        for term in terms(axis):
            if term.size % inner:
                raise Clash(f"a part of {term.size} is no multiple of {inner}")
            head, rest = self.split(term, term.size // inner)
            heads.append(head if head is not ONE else self.prime(1))
            if tail is None:
                tail = rest
            else:
                self.unify(tail, rest)
        return total(heads), tail if tail is not None else ONE

    def _split_product(self, axis: Product, outer: int) -> tuple[Axis, Axis]:
        left, head, need = factors(axis), [], outer
        while need > 1:
            factor = left.pop(0)
            common = math.gcd(factor.size, need)
            first, rest = self.split(factor, common)
            head.append(first)
            need //= common
            if need > 1 and rest.size > 1:
                inner, left = self._interleaved(rest, left, need)
                return product([*head, self.prime(need, INTERLEAVED)]), product([inner, *left])
            left[:0] = factors(rest)
        return product(head), product(left)

    def _interleaved(self, factor: Axis, left: list[Axis], need: int) -> tuple[Axis, list[Axis]]:
        """What is inside an outer axis of size `need` that has no common divisor with the outermost factor.

        6 x 4 as 4 x 6 is 2 x (3 x 2) x 2 and 2 x (2 x 3) x 2: the outermost and the innermost factor are the same in
        both, but what lies between them is run through in another order. It is frozen.
        """
        self.freeze(factor, INTERLEAVED)
        between = factor.size
        while between % need:
            following, *left = left
            missing = need // math.gcd(need, between)
            if following.size % missing == 0:
                following, rest = self.split(following, missing)
                left = [*factors(rest), *left]
            self.freeze(following, INTERLEAVED)
            between *= following.size
        return self.prime(between // need, INTERLEAVED), left

    def cut(self, axis: Axis, places: Sequence[int]) -> list[Axis]:
        """The pieces between increasing `places`; one more than there are places."""
        pieces, start = [], 0
        for border in places:
            piece, axis = self._cut_once(axis, border - start)
            pieces.append(piece)
            start = border
        return [*pieces, axis]

    def _cut_once(self, axis: Axis, at: int) -> tuple[Axis, Axis]:
        axis = resolved(axis)
        if at <= 0:
            return Sum(()), axis
        if at >= axis.size:
            return axis, Sum(())
        if isinstance(axis, Prime):
            left, right = self.prime(at), self.prime(axis.size - at)
            self._bind(axis, Sum((left, right)))
            return left, right
        if isinstance(axis, Sum):
            return self._cut_sum(axis, at)
        inner = factors(axis)
        if len(inner) == 1:
            return self._cut_once(inner[0], at)
        step = math.prod(each.size for each in inner[1:])
        if at % step:
            raise Clash(f"a cut at {at} within steps of {step}")
        first, second = self._cut_once(inner[0], at // step)
        return product([first, *inner[1:]]), product([second, *inner[1:]])

    def _cut_sum(self, axis: Sum, at: int) -> tuple[Axis, Axis]:
        rest, left = terms(axis), []
        while at > 0:
            term = rest.pop(0)
            if term.size <= at:
                left.append(term)
                at -= term.size
            else:
                first, second = self._cut_once(term, at)
                left.append(first)
                rest.insert(0, second)
                at = 0
        return total(left), total(rest)

    def _bind(self, prime: Prime, axis: Axis) -> None:
        axis = resolved(axis)
        if axis is prime:
            return
        if any(each is prime for each in primes(axis)):
            raise Clash("an axis within itself")

        def undo() -> None:
            prime.bound = None

        self._undo.append(undo)
        prime.bound = axis
        for each in primes(axis):
            self._mark(each, each.frozen | prime.frozen, each.shifts | prime.shifts)

    def _mark(self, prime: Prime, frozen: frozenset[str], shifts: frozenset[str]) -> None:
        before = (prime.frozen, prime.shifts)
        if (frozen, shifts) == before:
            return

        def undo() -> None:
            prime.frozen, prime.shifts = before

        self._undo.append(undo)
        prime.frozen, prime.shifts = frozen, shifts
