"""The output error of one tensor by how many of its scores go: measured at a few counts, in between by its shape.

What a layer's own outputs lose can be told from moments of its inputs, without a pass. It does not tell how much the
network's outputs change, but that is near enough to a fixed multiple of it: the measured error over the shape is taken
to change steadily (its logarithm linearly) from one measured count to the next, and not at all beyond them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

Curve = list[tuple[int, float]]
"""(how many are removed, output error), ascending."""

_FIRST = 5 / 8  # of the scores, where it is measured first: nearer the end outputs are changed as much as can be
_LEAST = 1e-6  # of the largest value of a shape: less is nothing
_NOTHING = 1e-9  # an error that rounding makes


class Doubt(NamedTuple):
    """How many of a tensor are to be removed on trial."""

    removed: int
    error: float
    """What it may be off by there: as it is told, times the logarithm of how far that is from what was measured."""


class ErrorCurve:
    """Of one tensor. `levels`: counts at which it is measured where nothing else is known, ascending.

    What is gone before costs nothing.
    """

    def __init__(
        self,
        size: int,
        before: int,
        levels: Sequence[int],
        shape: Mapping[int, float] | None,
        known: Mapping[int, float],
    ) -> None:
        """`shape`: by count, ascending, in any unit; None: nothing is known of it. `known`: measured by count."""
        self.size, self.before, self.levels = size, before, list(levels)
        usable = shape is not None and all(map(math.isfinite, shape.values()))
        self._given = dict(zip(shape, accumulate(shape.values(), max), strict=True)) if shape and usable else {}
        self.known = {count: known[count] for count in {*self.levels, *self._given} if count in known}

    def note(self, count: int, error: float) -> None:
        """It was measured."""
        self.known[count] = error

    @property
    def _shape(self) -> dict[int, float] | None:
        """By count; None where it cannot be used: all is nothing, or an error is no number."""
        most = max(self._given.values(), default=0.0)
        if most <= 0.0 or not all(map(math.isfinite, self.known.values())):
            return None
        return {count: max(value, _LEAST * most) for count, value in self._given.items()}

    @property
    def counts(self) -> list[int]:
        """Those of which the curve tells something, ascending."""
        return self.levels if self._shape is None else list(self._given)

    @property
    def missing(self) -> list[int]:
        """Counts to be measured before anything can be said: one in all, or without a shape each that is not known."""
        if self._shape is None:
            return [count for count in self.levels if count not in self.known]
        first = self.before + _FIRST * (self.size - self.before)
        return [] if self.known else [min(self.levels, key=lambda count: (abs(count - first), count))]

    def doubt(self, count: int, near: float) -> Doubt | None:
        """Where to measure when the tensor is to lose about this many; None: what is known is near enough.

        `near`: up to this logarithm of the ratio of the shape's values.
        """
        shape = self._shape
        if shape is None or not self.before < count < self.size:
            return None
        nearest = min(self.counts, key=lambda each: (abs(each - count), each))
        far = min(abs(math.log(shape[nearest] / shape[each])) for each in self.known)
        if far <= near:
            return None
        return Doubt(nearest, far * dict(zip(self.counts, self._errors(), strict=True))[nearest])

    def points(self) -> Curve:
        """From nothing to all: more never costs less, and the last one costs a lot."""
        if self.before == self.size:
            return [(0, 0.0), (self.size, 0.0)] if self.size else [(0, 0.0)]
        curve, worst = [(0, 0.0), *([(self.before, 0.0)] if self.before else [])], 0.0
        for count, error in zip(self.counts, self._errors(), strict=True):
            worst = max(worst, error if math.isfinite(error) else 10.0 * worst + 10.0)
            curve.append((count, worst))
        last, previous = curve[-1][0], curve[-2:][0]
        if last < self.size - 1:  # on as it went last
            slope = (worst - previous[1]) / (last - previous[0]) if last > self.before else 1.0
            curve.append((self.size - 1, worst + max(slope, 1e-9) * (self.size - 1 - last)))
        return [*curve, (self.size, curve[-1][1] * 10.0 + 10.0)]

    def _errors(self) -> list[float]:
        """At each of the counts."""
        shape = self._shape
        if shape is None:
            return [self.known[count] for count in self.counts]
        measured = sorted(self.known)
        ratios = [math.log(max(self.known[count], _NOTHING) / shape[count]) for count in measured]
        between = np.exp(np.interp(self.counts, measured, ratios))
        return [
            self.known.get(count, shape[count] * float(ratio))
            for count, ratio in zip(self.counts, between, strict=True)
        ]
