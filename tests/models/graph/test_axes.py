"""The algebra of axes does what numpy does to positions: reshapes, permutations, concatenations and slices agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modelopt_cli.models.graph.axes import (
    INTERLEAVED,
    ONE,
    Axis,
    Clash,
    Mask,
    Prime,
    Product,
    factors,
    kept,
    length,
    owners,
    primes,
    product,
    resolved,
    terms,
    total,
)
from modelopt_cli.models.graph.unification import Axes

Keep = dict[Prime, Mask]
State = list[tuple[Any, ...]]
LARGEST = 100_000  # positions


def loose(axes: Axes, axis: Axis, generator: np.random.Generator, share: float = 0.5) -> Keep:
    """Random masks for what may lose units: at least one stays."""
    keep: Keep = {}
    for prime in dict.fromkeys(primes(axis)):
        if not prime.frozen:
            keep[prime] = generator.random(prime.size) < share
            if not keep[prime].any():
                keep[prime][0] = True
    return keep


class Recorded(Axes):
    """Remembers every prime that it made."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Prime] = []

    def prime(self, size: int, *frozen: str) -> Prime:
        prime = super().prime(size, *frozen)
        self.all.append(prime)
        return prime

    def state(self, count: int | None = None) -> State:
        return [(prime.bound, prime.frozen, prime.shifts) for prime in self.all[:count]]


# Made of parts


@st.composite
def nested(draw: st.DrawFn) -> tuple[Recorded, Axis]:
    """An axis of primes, products and sums, at most three deep. (Masks of all positions of larger ones fill memory.)"""
    axes = Recorded()

    def made(depth: int) -> Axis:
        kind = draw(st.sampled_from(["prime", "product", "sum"])) if depth else "prime"
        if kind == "prime":
            return axes.prime(draw(st.integers(1, 6)))
        parts = [made(depth - 1) for _ in range(draw(st.integers(1, 3)))]
        return product(parts) if kind == "product" else total(parts)

    axis = made(3)
    assume(axis.size <= LARGEST)
    return axes, axis


def divisors(number: int) -> list[int]:
    return [each for each in range(1, number + 1) if number % each == 0]


@given(nested(), st.integers(0, 99))
def test_length_and_owners_agree_with_masks(given_: tuple[Recorded, Axis], seed: int) -> None:
    axes, axis = given_
    keep = loose(axes, axis, np.random.default_rng(seed))
    mask = kept(axis, keep)
    assert mask.shape == (axis.size,)
    assert length(axis, {prime: int(each.sum()) for prime, each in keep.items()}) == mask.sum()
    assert kept(axis, {}).all()
    again = np.ones(axis.size, dtype=bool)
    for prime, each in keep.items():
        owner = owners(axis, prime)
        alone = np.where(owner >= 0, each[owner], True)
        assert np.array_equal(kept(axis, {prime: each}), alone)
        again &= alone
    assert np.array_equal(mask, again)


@given(nested(), st.data())
def test_split_then_multiply_is_the_same(given_: tuple[Recorded, Axis], data: st.DataObject) -> None:
    axes, axis = given_
    outer = data.draw(st.sampled_from(divisors(axis.size)))
    before, count = axes.state(), len(axes.all)
    try:
        with axes.trial():
            head, tail = axes.split(axis, outer)
    except Clash:
        assert axes.state(count) == before
        return
    assert (head.size, tail.size) == (outer, axis.size // outer)
    keep = loose(axes, axis, np.random.default_rng(0))
    assert np.array_equal(kept(product([head, tail]), keep), kept(axis, keep))
    assert np.array_equal(np.outer(kept(head, keep), kept(tail, keep)).reshape(-1), kept(axis, keep))


@given(nested(), st.data())
def test_cut_then_add_is_the_same(given_: tuple[Recorded, Axis], data: st.DataObject) -> None:
    axes, axis = given_
    places = sorted(data.draw(st.sets(st.integers(0, axis.size), max_size=3)))
    before, count = axes.state(), len(axes.all)
    try:
        with axes.trial():
            pieces = axes.cut(axis, places)
    except Clash:
        assert axes.state(count) == before
        return
    assert [piece.size for piece in pieces] == [end - start for start, end in pairwise([0, *places, axis.size])]
    keep = loose(axes, axis, np.random.default_rng(0))
    assert np.array_equal(kept(total(pieces), keep), kept(axis, keep))


@given(nested(), nested(), st.booleans())
def test_what_is_unified_keeps_the_same_positions(
    first: tuple[Recorded, Axis], second: tuple[Recorded, Axis], stretched: bool
) -> None:
    axes, (_, one), (_, other) = first[0], first, second
    axes.all += second[0].all
    if stretched:  # else they seldom have one size
        assume(one.size * other.size <= LARGEST)
        one, other = product([one, axes.prime(other.size)]), product([axes.prime(one.size), other])
    before, count = axes.state(), len(axes.all)
    try:
        with axes.trial():
            axes.unify(one, other)
    except Clash:
        assert axes.state(count) == before
        return
    keep = loose(axes, product([one, other]), np.random.default_rng(0))
    assert np.array_equal(kept(one, keep), kept(other, keep))
    assert {prime for prime in primes(one) if prime.size > 1} == {prime for prime in primes(other) if prime.size > 1}


@st.composite
def factorings(draw: st.DrawFn) -> tuple[int, list[int], list[int]]:
    """A number, and two ways to write it as a product."""
    parts = draw(st.lists(st.integers(2, 6), min_size=1, max_size=4))
    size = math.prod(parts)
    return size, parts, factored(draw, size)


def factored(draw: Callable[[st.SearchStrategy[int]], int], size: int) -> list[int]:
    parts = []
    while size > 1:
        parts.append(draw(st.sampled_from(divisors(size)[1:])))
        size //= parts[-1]
    return parts


def outer_of(masks: list[Mask]) -> Mask:
    outer = np.ones((), dtype=bool)
    for mask in masks:
        outer = np.multiply.outer(outer, mask)
    return outer


@given(factorings())
def test_two_reshapes_of_one_dimension_agree(given_: tuple[int, list[int], list[int]]) -> None:
    size, some, others = given_
    axes = Axes()
    one, other = ([axes.prime(each) for each in parts] for parts in (some, others))
    axes.unify(product(one), product(other))
    keep = loose(axes, product(one), np.random.default_rng(size))
    left, right = (outer_of([kept(axis, keep) for axis in parts]) for parts in (one, other))
    assert np.array_equal(left.reshape(-1), right.reshape(-1))
    cumulative = [{math.prod(parts[:end]) for end in range(len(parts) + 1)} for parts in (some, others)]
    borders = sorted(cumulative[0] | cumulative[1])
    interleaved = any(prime.frozen for prime in primes(product(one)))
    assert interleaved == any(b % a for a, b in pairwise(borders))  # else the borders are one chain of divisors


# Programs


class Program:
    """The same operations on axes, on an array, and later on an array that has lost units."""

    def __init__(self) -> None:
        self.axes = Recorded()
        self.steps: list[Callable[[list[np.ndarray], Keep], np.ndarray]] = []
        self.inputs: list[tuple[np.ndarray, list[Axis]]] = []

    def source(self, sizes: list[int]) -> tuple[np.ndarray, list[Axis]]:
        offset = 1000 * (len(self.inputs) + 1)
        array = offset + np.arange(math.prod(sizes)).reshape(sizes)
        dims: list[Axis] = [self.axes.prime(size) for size in sizes]
        self.inputs.append((array, dims))
        return array, dims

    def pruned_input(self, number: int, keep: Keep) -> np.ndarray:
        array, dims = self.inputs[number]
        return array[np.ix_(*(np.flatnonzero(kept(axis, keep)) for axis in dims))]


@pytest.mark.slow
@settings(max_examples=200)
@given(st.data())
def test_programs_on_positions(data: st.DataObject) -> None:
    program = Program()
    axes = program.axes
    array, dims = program.source(data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=3)))
    steps: list[Callable[[np.ndarray, Keep], np.ndarray]] = []

    def sizes(listed: list[Axis], keep: Keep) -> list[int]:
        return [int(kept(axis, keep).sum()) for axis in listed]

    def reshaped(dims: list[Axis], x: np.ndarray, keep: Keep) -> np.ndarray:
        return x.reshape(sizes(dims, keep))

    def transposed(order: list[int], x: np.ndarray, keep: Keep) -> np.ndarray:
        return x.transpose(order)

    def joined(number: int, at: int, x: np.ndarray, keep: Keep) -> np.ndarray:
        return np.concatenate([x, program.pruned_input(number, keep)], at)

    def taken(before: Axis, middle: Axis, at: int, x: np.ndarray, keep: Keep) -> np.ndarray:
        return np.take(x, sum(sizes([before], keep)) + np.arange(*sizes([middle], keep)), at)

    try:
        for _ in range(data.draw(st.integers(1, 5))):
            kind = data.draw(st.sampled_from(["reshape", "permute", "concatenate", "slice"]))
            at = data.draw(st.integers(0, len(dims) - 1))
            if kind == "reshape":
                rest, heads = product(dims), []
                for size in factored(data.draw, array.size) or [1]:
                    head, rest = axes.split(rest, size)
                    heads.append(head)
                dims, array = heads, array.reshape([axis.size for axis in heads])
                steps.append(partial(reshaped, dims))
            elif kind == "permute":
                order = data.draw(st.permutations(range(len(dims))))
                dims, array = [dims[each] for each in order], array.transpose(order)
                steps.append(partial(transposed, order))
            elif kind == "concatenate":
                shape = list(array.shape)
                shape[at] = data.draw(st.integers(1, 6))
                other, added = program.source(shape)
                for dim, axis in enumerate(added):
                    if dim != at:
                        axes.unify(dims[dim], axis)
                dims = [total([axis, added[dim]]) if dim == at else axis for dim, axis in enumerate(dims)]
                array, number = np.concatenate([array, other], at), len(program.inputs) - 1
                steps.append(partial(joined, number, at))
            elif array.shape[at] > 1:
                start = data.draw(st.integers(0, array.shape[at] - 1))
                end = data.draw(st.integers(start + 1, array.shape[at]))
                before, middle, _ = axes.cut(dims[at], [start, end])
                dims = [middle if dim == at else axis for dim, axis in enumerate(dims)]
                array = np.take(array, range(start, end), at)
                steps.append(partial(taken, before, middle, at))
    except Clash:
        return
    whole = product([axis for _, each in program.inputs for axis in each])
    keep = loose(axes, whole, np.random.default_rng(0))
    pruned = program.pruned_input(0, keep)
    for step in steps:
        pruned = step(pruned, keep)
    expected = array[np.ix_(*(np.flatnonzero(kept(axis, keep)) for axis in dims))]
    assert np.array_equal(pruned, expected)


# By hand


def test_an_interleaved_reshape_freezes_only_what_lies_between() -> None:
    axes = Axes()
    six, four = axes.prime(6), axes.prime(4)
    groups, within = axes.split(product([six, four]), 4)
    assert (groups.size, within.size) == (4, 6)
    frozen = [(axis.size, set(axis.frozen)) for axis in (*primes(groups), *primes(within))]
    assert frozen == [(2, set()), (2, {INTERLEAVED}), (3, {INTERLEAVED}), (2, set())]
    outermost, innermost = next(primes(groups)), [*primes(within)][-1]
    assert next(primes(six)) is outermost
    assert [*primes(four)][-1] is innermost


def test_coprime_orders_are_frozen_altogether() -> None:
    axes = Axes()
    eight, three = axes.prime(8), axes.prime(3)
    head, tail = axes.split(product([eight, three]), 3)
    assert all(prime.frozen == {INTERLEAVED} for axis in (eight, three, head, tail) for prime in primes(axis))


def test_a_product_of_a_sum_is_a_sum_of_products() -> None:
    axes = Axes()
    a, b, c = axes.prime(2), axes.prime(3), axes.prime(4)
    whole = product([total([a, b]), c])
    left, right = axes.cut(whole, [8])
    assert [*primes(left)] == [a, c]
    assert [*primes(right)] == [b, c]
    head, tail = axes.split(whole, 5)
    assert resolved(tail) is c
    assert terms(head) == [a, b]


def test_padding_of_a_shortcut_is_a_sum_with_what_comes_from_elsewhere() -> None:
    axes = Axes()
    channels, zeros, more, wide = axes.prime(16), axes.prime(8), axes.prime(8), axes.prime(32)
    axes.unify(wide, total([zeros, channels, more]))
    keep = {channels: np.arange(16) % 2 == 0}
    assert kept(wide, keep).sum() == 24
    assert np.array_equal(owners(wide, channels), [-1] * 8 + [*range(16)] + [-1] * 8)


def test_marks_follow_what_a_prime_is_bound_to() -> None:
    axes = Axes()
    whole = axes.prime(12, "first")
    axes.shift(whole, "a mean")
    head, tail = axes.split(whole, 3)
    axes.freeze(tail, "second")
    assert [*primes(whole)] == [head, tail]
    assert isinstance(head, Prime)
    assert isinstance(tail, Prime)
    assert (set(head.frozen), set(tail.frozen)) == ({"first"}, {"first", "second"})
    assert head.shifts == tail.shifts == {"a mean"}
    other = axes.prime(3)
    axes.unify(other, head)
    assert next(primes(other)).frozen == {"first"}


def test_a_clash_undoes_bindings_and_marks() -> None:
    axes = Recorded()
    a, b, c = axes.prime(6), axes.prime(6), axes.prime(4)
    axes.split(a, 2)
    before = axes.state()

    def several() -> None:
        with axes.trial():
            axes.unify(a, b)
            axes.freeze(c, "reason")
            axes.shift(c, "mean")
            axes.unify(axes.split(b, 2)[0], c)

    with pytest.raises(Clash, match="sizes 2 and 4"):
        several()
    assert axes.state(5) == before
    with axes.trial():
        axes.unify(a, b)
    assert {*primes(a)} == {*primes(b)}


def test_trials_within_trials() -> None:
    axes = Recorded()
    a, b = axes.prime(4), axes.prime(4)
    before = axes.state()

    def inner(clash: bool) -> None:
        with axes.trial():
            axes.unify(a, b)
            axes.freeze(b, "inner")
            if clash:
                raise Clash("inner")

    def outer() -> None:
        with axes.trial():
            inner(clash=False)
            raise Clash("outer")

    with pytest.raises(Clash, match="outer"):
        outer()
    assert axes.state() == before
    with axes.trial():
        with pytest.raises(Clash, match="inner"):
            inner(clash=True)
        axes.freeze(a, "outer")
    assert (set(a.frozen), set(b.frozen), a.bound) == ({"outer"}, set(), None)


def test_an_axis_is_not_within_itself() -> None:
    axes = Axes()
    a = axes.prime(4)
    with pytest.raises(Clash, match="sizes 4 and 8"):
        axes.unify(a, product([a, axes.prime(2)]))
    with pytest.raises(Clash, match="within itself"):
        axes.unify(a, Product((a, axes.prime(1))))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda axes: axes.split(axes.prime(6), 4), "6 is no multiple of 4"),
        (lambda axes: axes.split(axes.prime(6), 0), "6 is no multiple of 0"),
        (lambda axes: axes.split(total([axes.prime(3), axes.prime(5)]), 4), "a part of 3 is no multiple of 2"),
        (lambda axes: axes.cut(product([axes.prime(3), axes.prime(4)]), [5]), "a cut at 5 within steps of 4"),
    ],
)
def test_clashes_say_what_does_not_fit(act: Callable[[Axes], object], message: str) -> None:
    with pytest.raises(Clash, match=message):
        act(Axes())


def test_axes_of_size_one_have_no_factors() -> None:
    axes = Axes()
    assert factors(axes.prime(1)) == []
    assert factors(product([axes.prime(1), ONE])) == []
    axes.unify(axes.prime(1), ONE)
    head, tail = axes.split(axes.prime(5), 5)
    assert (head.size, tail.size) == (5, 1)
    assert repr(product([axes.prime(2), total([axes.prime(1), axes.prime(3)])])) == "(p5[2] * (p6[1] + p7[3]))"
