"""Where a ranking is cut: which scores go, with an exact count, without sorting scores or copying all of them.

Every allocation ends in a cut for each tensor. The border of the lowest k of n scores is found by radix selection: a
histogram of the upper 16 bits of all scores, then one of the lower 16 bits of those in the bin that holds the k-th.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from modelopt_cli.models.in_order import in_order

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

    upper, below, _ = _bin(scores, count, lambda key: (key >> 16).add_(_BINS // 2))
    within = upper - _BINS // 2
    lower, before, equal = _bin(scores, count - below, lambda key: key[(key >> 16) == within] & (_BINS - 1))
    key = torch.tensor(((upper - _BINS // 2) << 16) | lower, dtype=torch.int64).to(torch.int32)
    return float(_key(key.view(torch.float32), flipped=True)), below + before, equal


def _bin(scores: Scores, count: int, place: Callable[[Tensor], Tensor]) -> tuple[int, int, int]:
    """(the bin of the `count`-th lowest, how many lie in the bins before it, how many in it); `place`: key -> bin."""

    def histogram(name: str) -> Tensor:
        parts = (torch.bincount(place(_key(part)), minlength=_BINS) for part in _parts(scores[name]))
        return sum(parts, start=torch.zeros((), dtype=torch.int64))

    found = torch.zeros(_BINS, dtype=torch.int64)
    for one in in_order(histogram, list(scores)):
        found += one.cpu()
    upto = found.cumsum(0)
    bin_ = int((upto < count).sum())
    return bin_, int(upto[bin_ - 1]) if bin_ else 0, int(found[bin_])


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
