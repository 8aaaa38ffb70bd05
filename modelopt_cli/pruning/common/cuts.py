"""Where a ranking is cut: which scores go, with an exact count, without sorting scores or copying all of them.

Every allocation ends in a cut for each tensor. The border of the lowest k of n scores is found by radix selection: a
histogram of the upper 16 bits of all scores, then one of the next 16 bits of those in the bin that holds the k-th, and
so on. Scores that are made as they are asked for are made once for each such pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from modelopt_cli.models.in_order import in_order

Scores = Mapping[str, Tensor]
"""Tensor's name -> its scores."""

_CHUNK = 1 << 20  # scores in a step: about a core's share of cache
_DIGIT = 16  # bits
_BINS = 1 << _DIGIT
_SMALL = 1 << 12  # scores that are sorted
_ALL = 1 << 62  # ties: more than there are scores
_FLOATS = {32: torch.float32, 64: torch.float64}
_INTEGERS = {32: torch.int32, 64: torch.int64}


class Cut(NamedTuple):
    """Scores below `border` go, and of those equal to it the first `ties` in memory order. NaN counts as infinite."""

    border: float
    ties: int = 0

    def removes(self, scores: Tensor) -> Tensor:
        """True where a score goes. Shape of `scores`."""
        if math.isinf(self.border) and self.border > 0:
            scores = torch.where(scores.isnan(), torch.inf, scores)
        goes = _below(scores, self.border, equal=self.ties >= scores.numel() > 0)
        if 0 < self.ties < scores.numel():
            flat = goes.view(-1)
            equal = (scores.reshape(-1) == self.border).nonzero()[:, 0]
            flat[equal[: self.ties]] = True
        return goes

    def count(self, scores: Tensor) -> int:
        """How many go."""
        return int(self.removes(scores).sum())


NOTHING = Cut(-math.inf)
"""The cut that removes nothing."""


class BlockScores(Mapping[str, Tensor]):
    """Scores that stand for several weights each. What ranks is what they are for one weight."""

    def __init__(self, scores: Scores, sizes: Mapping[str, int]) -> None:
        """`scores`: for one weight; `sizes`: how many weights one score of each tensor stands for."""
        self._scores, self.sizes = scores, sizes

    def __getitem__(self, name: str) -> Tensor:
        return self._scores[name]

    def __contains__(self, name: object) -> bool:
        return name in self._scores  # Mapping's own would make the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)


def block_sizes(scores: Scores) -> Mapping[str, int]:
    """How many weights one score of each tensor stands for: 1, but of BlockScores."""
    return scores.sizes if isinstance(scores, BlockScores) else dict.fromkeys(scores, 1)


def subset(scores: Scores, names: Iterable[str]) -> Scores:
    """Those of these tensors, made now where they are made as they are asked for."""
    chosen = {name: scores[name] for name in names}
    return BlockScores(chosen, scores.sizes) if isinstance(scores, BlockScores) else chosen


def lowest(scores: Tensor, count: int) -> Cut:
    """The cut that removes exactly `count` scores: the lowest, among equal ones the first."""
    if 0 < count < scores.numel() <= _SMALL:
        return _lowest_of_few(scores, count)
    return joint({"": scores}, count)[""]


def _lowest_of_few(scores: Tensor, count: int) -> Cut:
    """By sorting: the histograms of the radix selection are larger than the scores."""
    ordered = torch.cat(list(_parts(scores))).sort().values
    value = float(ordered[count - 1])
    below, upto = (int(torch.searchsorted(ordered, ordered[count - 1], right=right)) for right in (False, True))
    return _cut(value, _ALL if upto == count else count - below, scores.dtype)


def joint(scores: Scores, count: int) -> dict[str, Cut]:
    """One ranking over all tensors: exactly `count` scores go; among equal ones the first tensor's first."""
    return _joint(scores, lambda total: count)


def joint_share(scores: Scores, share: float) -> dict[str, Cut]:
    """One ranking over all n scores, of which round(`share` * n) go; they are not made only to be counted.

    Of BlockScores n counts weights, and the number that goes is the nearest that whole scores can make.
    """
    return _joint(scores, lambda total: round(share * total))


class _Border(NamedTuple):
    """The last score that goes: `left` of the `equal` ones that equal it do. `dtypes`: of each tensor's scores."""

    value: float
    equal: int
    left: int
    dtypes: Mapping[str, torch.dtype]


def _joint(scores: Scores, wanted: Callable[[int], int]) -> dict[str, Cut]:
    sizes = block_sizes(scores)
    value, equal, left, dtypes = _border(scores, wanted, sizes)
    if equal == left:
        return {name: _cut(value, _ALL if equal else 0, dtypes[name]) for name in scores}

    def count(name: str) -> int:
        if _rounded(value, dtypes[name]) != value:
            return 0
        return sum(int((part == value).sum()) for part in _parts(scores[name]))

    cuts = {}
    for name, equals in zip(scores, in_order(count, list(scores)), strict=True):
        size = sizes[name]
        ties = min(max(0, left + size // 2) // size, equals)
        cuts[name], left = _cut(value, ties, dtypes[name]), left - ties * size
    return cuts


def _cut(value: float, ties: int, dtype: torch.dtype) -> Cut:
    """As scores of this dtype are compared: a border between two of its numbers is rounded to one of them."""
    near = _rounded(value, dtype)
    return Cut(value, ties) if near == value else Cut(near, _ALL if near < value else 0)


def _rounded(value: float, dtype: torch.dtype) -> float:
    return float(torch.tensor(value, dtype=dtype))


def _border(scores: Scores, wanted: Callable[[int], int], sizes: Mapping[str, int], bits: int = 32) -> _Border:
    """`wanted`: from the number of all scores to that of those that go. `bits`: of a key, 64 where one is float64.

    `sizes`: every score of a tensor counts as so many.
    """
    count = above = below = equal = 0
    dtypes: dict[str, torch.dtype] = {}
    for shift in range(bits - _DIGIT, -1, -_DIGIT):
        first = shift == bits - _DIGIT
        histogram, dtypes = _histogram(scores, sizes, bits, shift, None if first else above)
        if bits == 32 and torch.float64 in dtypes.values():
            return _border(scores, wanted, sizes, 64)
        if first:
            total = int(histogram.sum())
            count = wanted(total)
            if not 0 < count < total:
                return _Border(math.inf, _ALL, _ALL, dtypes) if count > 0 else _Border(-math.inf, 0, 0, dtypes)
        upto = histogram.cumsum(0)
        digit = int((upto < count - below).sum())
        equal = int(histogram[digit])
        below += int(upto[digit]) - equal
        above = digit - _BINS // 2 if first else (above << _DIGIT) | digit
    key = torch.tensor(above, dtype=torch.int64).to(_INTEGERS[bits])
    return _Border(float(_flip(key).view(_FLOATS[bits])), equal, count - below, dtypes)


def _histogram(
    scores: Scores, sizes: Mapping[str, int], bits: int, shift: int, above: int | None
) -> tuple[Tensor, dict[str, torch.dtype]]:
    """How many keys have each digit at `shift`, among those whose higher digits are `above`; the scores' dtypes.

    The highest digit has a sign, so it counts from -32768.
    """

    def of(name: str) -> tuple[Tensor, torch.dtype]:
        score = scores[name]
        counts = torch.zeros(_BINS, dtype=torch.int64)
        for part in _parts(score):
            key = _flip(part.to(_FLOATS[bits]).view(_INTEGERS[bits]))
            if above is None:
                digits = (key >> shift).add_(_BINS // 2)
            else:
                digits = (_where(key, (key >> (shift + _DIGIT)) == above) >> shift) & (_BINS - 1)
            counts += torch.bincount(digits, minlength=_BINS).cpu()
        return counts * sizes[name], score.dtype

    total, dtypes = torch.zeros(_BINS, dtype=torch.int64), {}
    for name, (counts, dtype) in zip(scores, in_order(of, list(scores)), strict=True):
        total, dtypes[name] = total.add_(counts), dtype
    return total, dtypes


def _flip(bits: Tensor) -> Tensor:
    """A float's bits <-> a signed integer in the same order: negative numbers have all bits but the sign flipped."""
    width = 8 * bits.element_size()
    return bits ^ ((bits >> (width - 1)) & ((1 << (width - 1)) - 1))


def _parts(scores: Tensor) -> Iterator[Tensor]:
    """(n,) pieces of at least float32, with NaN as infinity and no negative zero."""
    for part in torch.split(scores.detach().reshape(-1), _CHUNK):
        part = part if part.dtype in (torch.float32, torch.float64) else part.float()
        if not bool(part.sum().isfinite()):  # a sum costs a tenth of a look at each
            part = torch.where(part.isnan(), torch.inf, part)
        yield part + 0.0


def _below(scores: Tensor, border: float, *, equal: bool) -> Tensor:
    """scores < border (`equal`: <=); by numpy where it can, in an eighth of torch's time on a CPU (2.13)."""
    if scores.device.type == "cpu" and scores.dtype in (torch.float32, torch.float64):
        values = scores.detach().numpy()
        limit = values.dtype.type(border)
        return torch.from_numpy(np.asarray(values <= limit if equal else values < limit))
    return scores <= border if equal else scores < border


def _where(keys: Tensor, chosen: Tensor) -> Tensor:
    """keys[chosen]; by numpy on a CPU, in a fifth of torch's time."""
    return torch.from_numpy(keys.numpy()[chosen.numpy()]) if keys.device.type == "cpu" else keys[chosen]
