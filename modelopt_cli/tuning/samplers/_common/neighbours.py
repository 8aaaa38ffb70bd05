"""Search over a space by a model: random points of the cube, then neighbours of the best, round by round.

It works on snapped codes (encoding.py), many at a time, and needs no gradient. So it serves mixed and conditional
spaces, and trees as well as processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from modelopt_cli.tuning.space.space import Space

Array = NDArray[np.float64]

APART = 1e-3  # of each range: nearer to a trial than that, a setting teaches little
_DRAWN = 20  # random points that keep the rules, where there are some
_TOP = 10  # points whose neighbours are looked at next
_LOOKED_AT = 200  # most promising points that are tested for having been tried


def near(centres: Array, width: float, count: int, rng: np.random.Generator) -> Array:
    """Points (count, dim) about the centres (K, dim): some coordinates moved, now and then one thrown anew.

    What does not count in a centre (NaN) is drawn.
    """
    shape = (count, centres.shape[1])
    base = centres[rng.integers(len(centres), size=count)]
    base = np.where(np.isnan(base), rng.random(shape), base)
    moved = base + width * rng.standard_normal(shape)
    moves = rng.random(shape) < max(0.5, 1.0 / shape[1])
    anew = rng.random(shape) < 0.5 / shape[1]
    return np.clip(np.where(anew, rng.random(shape), np.where(moves, moved, base)), 0.0, 1.0)


def climbed(
    first: Array,
    snap: Callable[[Array], Array],
    merit_of: Callable[[Array], Array],
    widths: Sequence[float],
    count: int,
    rng: np.random.Generator,
    space: Space,
) -> tuple[Array, Array]:
    """Snapped codes (M, dim) and their merit (M,): of the points `first`, then in rounds of the best ones' neighbours.

    A round for each of `widths`, with `count` points about the ten best so far. What breaks a rule of the space is
    left out.
    """

    def snapped(points: Array) -> Array:
        codes = snap(points)
        return codes[space.kept(codes)] if space.rules else codes

    if space.rules:
        drawn = np.stack([space.encode(space.sample(rng)) for _ in range(_DRAWN)])
        first = np.concatenate([first, np.nan_to_num(drawn, nan=0.5)])
    codes = snapped(first)
    if not len(codes):
        return codes, np.empty(0)
    merit = merit_of(codes)
    for width in widths:
        top = codes[np.argsort(-merit, kind="stable")[:_TOP]]
        more = snapped(near(top, width, count, rng))
        if len(more):
            codes, merit = np.concatenate([codes, more]), np.concatenate([merit, merit_of(more)])
    return codes, merit


def best_first(codes: Array, merit: Array, known: Array, apart: float = APART) -> Iterator[Array]:
    """Codes (dim,) by descending merit (M,), those that lie next to one of `known` (N, dim) last.

    `apart`: how far from it a setting teaches something, in every range.
    """
    order = np.argsort(-merit, kind="stable")[:_LOOKED_AT]
    gaps = np.abs(np.nan_to_num(codes[order, None], nan=-1.0) - np.nan_to_num(known, nan=-1.0)).max(axis=2).min(axis=1)
    yield from codes[[*order[gaps >= apart], *order[gaps < apart]]]
