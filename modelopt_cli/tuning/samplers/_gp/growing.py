"""A Gaussian process that grows point by point, for whoever asks it again after each new one.

What a new point changes in the inverse of the covariance's Cholesky factor is one row, which costs N² and not N³. Rows
are always added one by one, so that a process has the same numbers, to the last bit, whether it has grown with a search
or was built at once, as when a search is replayed: near ties would be decided otherwise.

Its last number is the step on a curve: the same settings are asked about at several.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dtrmm
from scipy.linalg.lapack import dtrtri
from scipy.spatial.distance import cdist

from modelopt_cli.tuning.samplers._common.encoding import Points
from modelopt_cli.tuning.samplers._gp.process import JITTER, Process, QueryPoints, matern

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sight:
    """M settings, each at a step, as a process of N points sees them, before anything is solved."""

    points: Points
    warped: Array  # (M, P)
    apart: Array  # (M, N) squared distances to the points, the last number left out
    differing: Array | None  # (M, N) what categories add to that
    cross: Array  # (M, N) covariance with the points

    def take(self, index: Numbers) -> Sight:
        """Some of them."""
        differing = None if self.differing is None else self.differing[index]
        points, apart, cross = self.points.take(index), self.apart[index], self.cross[index]
        return Sight(points, self.warped[index], apart, differing, cross)


class GrowingProcess(Process):
    """See the module docstring. Its targets are told apart from its points (`told`), for they change more often."""

    def __init__(self, points: Points, hyper: Array) -> None:
        super().__init__(points, np.zeros(len(points)), hyper)
        self._inverse = np.ascontiguousarray(dtrtri(self._factor, lower=1)[0])  # of the factor, which stays the first's

    def grown(self, points: Points) -> GrowingProcess:
        """One that knows these points, too. Their targets are not known yet."""
        if not len(points):
            return self
        before, count = len(self._inverse), len(self._inverse) + len(points)
        other = copy(self)
        numbers = np.concatenate([self.points.numbers, points.numbers])
        other.points = Points(numbers, np.concatenate([self.points.categories, points.categories]))
        warped = self.warp(points)
        other._warped = np.concatenate([self._warped, warped])
        other._inverse = inverse = np.zeros((count, count))
        inverse[:before, :before] = self._inverse
        covariance = self._prior_covariance(points, warped, other.points, other._warped)
        for row, n in enumerate(range(before, count)):
            known = inverse[:n, :n]
            solved = known @ covariance[row, :n]
            left = covariance[row, n] + self.noise + JITTER - solved @ solved
            root = np.sqrt(max(left, JITTER))
            inverse[n, :n] = -(solved @ known) / root
            inverse[n, n] = 1.0 / root
        return other

    def told(self, targets: Array) -> GrowingProcess:
        """One that knows the targets (N,) of its points."""
        other = copy(self)
        other.targets = targets
        other._weights = (self._inverse @ targets) @ self._inverse
        return other

    def sight(self, points: Points) -> Sight:
        """What it takes to predict at M settings, their covariance with the points."""
        warped, lengths = self.warp(points), self.lengths
        apart = cdist(warped[:, :-1] / lengths[:-1], self._warped[:, :-1] / lengths[:-1], "sqeuclidean")
        differing = self.differing(points, self.points)
        return Sight(points, warped, apart, differing, self._cross(apart, warped, differing))

    def moved_along(self, sight: Sight, last: Array) -> Sight:
        """The same settings with another last number (M,)."""
        numbers = sight.points.numbers.copy()
        numbers[:, -1] = last
        points = Points(numbers, sight.points.categories)
        warped = self.warp(points)
        return Sight(points, warped, sight.apart, sight.differing, self._cross(sight.apart, warped, sight.differing))

    def _cross(self, apart: Array, warped: Array, differing: Array | None) -> Array:
        last = warped[:, -1:]
        if len(last) > 1 and (last == last[0]).all():  # as of all ends: one row stands for all
            last = last[:1]
        gaps = (last - self._warped[:, -1]) / self.lengths[-1]
        gaps *= gaps
        return matern(gaps + apart, float(np.log(self.variance)), differing)

    def means(self, sight: Sight) -> Array:
        """(M,), which needs no solving."""
        return np.asarray(sight.cross @ self._weights)

    def solved(self, sight: Sight) -> QueryPoints:
        """What it takes to know their variance."""
        return QueryPoints(
            sight.points, sight.warped, sight.cross, dtrmm(1.0, self._inverse.T, sight.cross.T, lower=0, trans_a=1)
        )

    def at(self, points: Points) -> QueryPoints:
        """See Process."""
        return self.solved(self.sight(points))
