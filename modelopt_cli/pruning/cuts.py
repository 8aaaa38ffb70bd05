"""Where a ranking is cut: which scores go, with an exact count, without sorting scores or copying all of them.

Every allocation ends in a cut for each tensor. The border of the lowest k of n scores is found by radix selection: a
histogram of the upper 16 bits of all scores, then one of the lower 16 bits of those in the bin that holds the k-th.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

Scores = Mapping[str, Tensor]

_CHUNK = 1 << 20  # scores in a step: about a core's share of cache
_BINS = 1 << 16


class Cut(NamedTuple):
    """Scores below `border` go, and of those equal to it the first `ties` in memory order. NaN counts as infinite."""

    border: float
    ties: int = 0

    def removes(self, scores: Tensor) -> Tensor:
        """True where a score goes. Shape of `scores`."""
        if math.isinf(self.border) and self.border > 0:
            scores = torch.where(scores.isnan(), torch.inf, scores)
        gone = scores < self.border
        if self.ties:
            flat = gone.view(-1)
            equal = (scores.reshape(-1) == self.border).nonzero()[:, 0]
            flat[equal[: self.ties]] = True
        return gone

    def count(self, scores: Tensor) -> int:
        """How many go."""
        return int(self.removes(scores).sum())


NOTHING = Cut(-math.inf)
"""The cut that removes nothing."""


def lowest(scores: Tensor, count: int) -> Cut:
    """The cut that removes exactly `count` scores: the lowest, among equal ones the first."""
    return joint({"": scores}, count)[""]


def joint(scores: Scores, count: int) -> dict[str, Cut]:
    """One ranking over all tensors: exactly `count` scores go; among equal ones the first tensor's first."""
    total = sum(score.numel() for score in scores.values())
    if count <= 0:
        return dict.fromkeys(scores, NOTHING)
    if count >= total:
        return {name: Cut(math.inf, score.numel()) for name, score in scores.items()}
    border, below, equal = _border(scores, count)
    if below + equal == count:
        return {name: Cut(border, equal) for name in scores}
    left = count - below
    cuts = {}
    for name, score in scores.items():
        ties = min(left, sum(int((part == border).sum()) for part in _parts(score))) if left else 0
        cuts[name], left = Cut(border, ties), left - ties
    return cuts


def _border(scores: Scores, count: int) -> tuple[float, int, int]:
    """(the `count`-th lowest score, how many are below it, how many equal it)."""
    if any(score.dtype == torch.float64 for score in scores.values()):
        flat = torch.cat([part.double() for score in scores.values() for part in _parts(score)])
        border = float(flat.kthvalue(count).values)
        return border, int((flat < border).sum()), int((flat == border).sum())

    def keys() -> Iterator[Tensor]:
        for score in scores.values():
            yield from map(_key, _parts(score))

    upper, below, _ = _bin(((key >> 16).add_(_BINS // 2) for key in keys()), count)
    within = (key[(key >> 16) == upper - _BINS // 2] & (_BINS - 1) for key in keys())
    lower, before, equal = _bin(within, count - below)
    key = torch.tensor(((upper - _BINS // 2) << 16) | lower, dtype=torch.int64).to(torch.int32)
    return float(_key(key.view(torch.float32), flipped=True)), below + before, equal


def _bin(places: Iterable[Tensor], count: int) -> tuple[int, int, int]:
    """(the bin of the `count`-th lowest, how many lie in the bins before it, how many in it)."""
    histogram: Tensor | None = None
    for place in places:
        found = torch.bincount(place, minlength=_BINS)
        histogram = found if histogram is None else histogram.add_(found)
    assert histogram is not None
    upto = histogram.cumsum(0)
    bin_ = int((upto < count).sum())
    return bin_, int(upto[bin_ - 1]) if bin_ else 0, int(histogram[bin_])


def _key(values: Tensor, *, flipped: bool = False) -> Tensor:
    """float32 -> int32 in the same order (and with `flipped` back, as float32): negative numbers have all bits but
    the sign flipped."""
    bits = values.view(torch.int32)
    key = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return key.view(torch.float32) if flipped else key


def _parts(scores: Tensor) -> Iterator[Tensor]:
    """(n,) pieces of at least float32, with NaN as infinity and no negative zero."""
    for part in torch.split(scores.detach().reshape(-1), _CHUNK):
        part = part if part.dtype in (torch.float32, torch.float64) else part.float()
        yield torch.where(part.isnan(), torch.inf, part) + 0.0
