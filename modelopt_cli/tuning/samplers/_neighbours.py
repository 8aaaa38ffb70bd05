"""Points of the cube near others, and the order in which found ones are suggested: for every search on a surrogate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_APART = 1e-3  # of each range: nearer to a trial than that, a setting teaches little
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
) -> tuple[Array, Array]:
    """Snapped codes (M, dim) and their merit (M,): of the points `first`, then in rounds of the best ones' neighbours.

    A round for each of `widths`, with `count` points about the ten best so far.
    """
    codes = snap(first)
    merit = merit_of(codes)
    for width in widths:
        top = codes[np.argsort(-merit, kind="stable")[:_TOP]]
        more = snap(near(top, width, count, rng))
        codes, merit = np.concatenate([codes, more]), np.concatenate([merit, merit_of(more)])
    return codes, merit


def best_first(codes: Array, merit: Array, known: Array) -> Iterator[Array]:
    """Codes (dim,) by descending merit (M,), those that lie next to one of `known` (N, dim) last."""
    order = np.argsort(-merit, kind="stable")[:_LOOKED_AT]
    gaps = np.abs(np.nan_to_num(codes[order, None], nan=-1.0) - np.nan_to_num(known, nan=-1.0)).max(axis=2).min(axis=1)
    yield from codes[[*order[gaps >= _APART], *order[gaps < _APART]]]
