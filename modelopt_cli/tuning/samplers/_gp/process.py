"""A Gaussian process that knows numbers, categories and conditions, fitted by its most probable hyperparameters.

Covariance of two settings: s² M(r) C. M is the Matérn 5/2 function of r² = sum over numbers of ((w(x) - w(y)) / l)²;
a number that does not count stands in the middle, since then the choice above it tells the settings apart. C is
exp(-sum over categories that differ of h). w is Kumaraswamy's distribution function, which warps each number's axis.

Priors: length scales LogNormal(sqrt(2) + log(D) / 2, sqrt(3)), so that they grow with the dimension (Hvarfner et al.,
ICML 2024), with their mode at exp(sqrt(2) - 3) sqrt(D); warps LogNormal(0, 0.3) (Snoek et al., ICML 2014); h
LogNormal(log 2, 0.5), which keeps categories nearly independent; noise LogNormal(-4, 1) and s² LogNormal(0, 0.5), of
targets with variance 1. Where trials speak strongly for exact losses, the noise's is LogNormal(-10, 2) (`sharpened`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from modelopt_cli.tuning.samplers._common.encoding import Points

Array = NDArray[np.float64]

_ROOT5 = 5.0**0.5
_EDGE = 1e-6  # warped numbers stay this far inside of the cube
JITTER = 1e-8
_WARP, _CATEGORY, _NOISE, _SCALE = (0.0, 0.3), (np.log(2.0), 0.5), (-4.0, 1.0), (0.0, 0.5)  # mean, deviation of logs
_EXACT = (-10.0, 2.0)  # noise of losses that follow from the setting: mean, deviation of the log
_LEAST_NOISE, _LEAST_EXACT = 1e-6, 1e-8
_EXACT_FROM = 15  # trials
_QUIET = _NOISE[0] - _NOISE[1]  # logarithm of the noise from which on exact losses are worth a look
_EVIDENCE = 5.0  # logarithm of how much more probable they are: "very strong" (Kass & Raftery 1995, section 3.2)
_NEXT_TO_NONE = -9.0  # logarithm of the noise below which losses count as exact
_STARTS = (0.5, 0.15)  # first length scales, times the root of the dimension
_STEPS = 40
_BLOCK = 64  # rows of a covariance
_ALIKE = 0.2  # deviation of the logarithms of length scales that are held near a common one


@dataclass(frozen=True, eq=False)
class _Hyper:
    """Hyperparameters: logarithms."""

    lengths: Array  # (P,)
    warps: Array  # (2, P)
    categories: Array  # (Q,)
    scale: float
    noise: float

    @classmethod
    def unpacked(cls, flat: Array, p: int, q: int) -> _Hyper:
        return cls(flat[:p], flat[p : 3 * p].reshape(2, p), flat[3 * p : 3 * p + q], float(flat[-2]), float(flat[-1]))


@dataclass(frozen=True, eq=False)
class QueryPoints:
    """M settings as a process of N settings looks at them."""

    points: Points
    warped: Array  # (M, P)
    cross: Array  # (M, N) covariance with the points
    solved: Array  # (N, M) the same, by the factor


class Process:
    """A process fitted to targets (N,) with mean 0 and variance 1.

    With hyperparameters given it takes several sets of targets (N, S), too; then its means are (M, S).
    """

    def __init__(self, points: Points, targets: Array, hyper: Array | None = None) -> None:
        """`hyper`: as another process found it; None: fitted."""
        self.points, self.targets = points, targets
        self.hyper = fitted(points, targets) if hyper is None else hyper
        self._unpacked = _Hyper.unpacked(self.hyper, points.numbers.shape[1], points.categories.shape[1])
        self._warped = _warp(points.numbers, self._unpacked)[0]
        covariance = self._covariance(points, self._warped)
        covariance[np.diag_indices_from(covariance)] += np.exp(self._unpacked.noise) + JITTER
        self._factor = cholesky(covariance, lower=True)
        self._weights = cho_solve((self._factor, True), targets)

    def with_points(self, points: Points, targets: Array) -> Process:
        """The same hyperparameters on other points."""
        return Process(points, targets, self.hyper)

    def predict(self, points: Points) -> tuple[Array, Array]:
        """Mean (M,) and standard deviation (M,) of what is not noise."""
        return self.posterior(self.at(points))

    def at(self, points: Points) -> QueryPoints:
        """What the process needs to know of M settings for all that is asked about them."""
        warped = _warp(points.numbers, self._unpacked)[0]
        cross = self._covariance(points, warped)  # (M, N)
        return QueryPoints(points, warped, cross, solve_triangular(self._factor, cross.T, lower=True))

    def posterior(self, queries: QueryPoints) -> tuple[Array, Array]:
        """Mean (M,), or (M, S), and standard deviation (M,) of what is not noise."""
        return queries.cross @ self._weights, np.sqrt(self._variance(queries))

    def _variance(self, queries: QueryPoints) -> Array:
        variance = np.exp(self._unpacked.scale) - np.einsum("nm,nm->m", queries.solved, queries.solved)
        return np.asarray(np.maximum(variance, 1e-12))

    @property
    def noise(self) -> float:
        """Variance of the noise."""
        return float(np.exp(self._unpacked.noise))

    @property
    def exact(self) -> bool:
        """Whether there is next to no noise, so that the last digits of a loss mean something."""
        return self._unpacked.noise < _NEXT_TO_NONE

    @property
    def variance(self) -> float:
        """Variance anywhere, before anything was seen."""
        return float(np.exp(self._unpacked.scale))

    @property
    def lengths(self) -> Array:
        """(P,) length scales on warped axes."""
        return np.asarray(np.exp(self._unpacked.lengths))

    def warp(self, points: Points) -> Array:
        """Numbers (M, P) on their warped axes."""
        return _warp(points.numbers, self._unpacked)[0]

    def paired_covariance(self, one: QueryPoints, other: QueryPoints) -> tuple[Array, Array]:
        """Posterior covariance (M,) of each setting of `one` with its partner in `other`; variance of the latter."""
        prior = self.paired_prior(one.points, one.warped, other.points, other.warped)
        return np.asarray(prior - np.einsum("nm,nm->m", one.solved, other.solved)), self._variance(other)

    def paired_prior(self, points: Points, warped: Array, others: Points, others_warped: Array) -> Array:
        """Covariance (M,) of each setting with its partner, before anything was seen."""
        apart = (((warped - others_warped) / np.exp(self._unpacked.lengths)) ** 2).sum(1)
        differ = (points.categories != others.categories) @ np.exp(self._unpacked.categories)
        r = _ROOT5 * np.sqrt(apart)
        return np.asarray(np.exp(self._unpacked.scale - r - differ) * (1.0 + r + r * r / 3.0))

    def joint(self, queries: QueryPoints) -> Array:
        """Posterior covariance (M, M) of settings, without noise."""
        prior = self._prior_covariance(queries.points, queries.warped, queries.points, queries.warped)
        return np.asarray(prior - queries.solved.T @ queries.solved)

    def correlation(self, points: Points, others: Points) -> Array:
        """(M, N) of settings with others, before anything was seen; 1 of a setting with itself."""
        warped, others_warped = (_warp(each.numbers, self._unpacked)[0] for each in (points, others))
        prior = self._prior_covariance(points, warped, others, others_warped)
        return np.asarray(prior / np.exp(self._unpacked.scale))

    def _covariance(self, points: Points, warped: Array) -> Array:
        """(M, N) of settings and those that the process was fitted to."""
        return self._prior_covariance(points, warped, self.points, self._warped)

    def _prior_covariance(self, points: Points, warped: Array, others: Points, others_warped: Array) -> Array:
        """(M, N) covariance of settings with others, before anything was seen."""
        hyper = self._unpacked
        lengths = np.exp(hyper.lengths)
        apart = cdist(warped / lengths, others_warped / lengths, "sqeuclidean")
        return matern(apart, hyper.scale, self.differing(points, others))

    def differing(self, points: Points, others: Points) -> Array | None:
        """(M, N) the sum of h over the categories that differ; None: there are no categories."""
        if not points.categories.shape[1]:
            return None
        exponent: Array | None = None
        for c, weight in enumerate(np.exp(self._unpacked.categories)):
            own, their = points.categories[:, c], others.categories[:, c]
            values = np.arange(-1, own.max(initial=-1) + 1)
            own_part = (weight * (values[:, None] != their))[own + 1]  # a row a value, of which there are few
            exponent = own_part if exponent is None else np.add(exponent, own_part, out=exponent)
        return exponent


def matern(apart: Array, scale: float, exponent: Array | None = None) -> Array:
    """Covariance of squared distances r² (M, N), which it is written over: scale is log s².

    Block by block, in place: what is large is dear to allocate, and to fetch again.
    """
    for start in range(0, len(apart), _BLOCK):
        r = apart[start : start + _BLOCK]
        np.sqrt(r, out=r)
        r *= _ROOT5
        polynomial = r * r
        polynomial /= 3.0
        polynomial += 1.0 + r
        np.subtract(scale, r, out=r)
        if exponent is not None:
            r -= exponent[start : start + _BLOCK]
        np.exp(r, out=r)
        r *= polynomial
    return apart


def fitted(points: Points, targets: Array, starts: int = 2) -> Array:
    """The most probable hyperparameters, from so many starts (at most 2)."""
    density = HyperPosterior(points, targets)
    optima = [_minimum(density, start, density.bounds) for start in density.starts()[:starts]]
    return min(optima, key=lambda optimum: optimum[1])[0]


def fitted_sharply(points: Points, targets: Array) -> Array:
    """The same from two starts, and `sharpened`."""
    return sharpened(points, targets, fitted(points, targets))


def sharpened(points: Points, targets: Array, hyper: Array, common_length: float | None = None) -> Array:
    """Hyperparameters under a prior of next to no noise, where trials speak strongly for it; else `hyper` as it is.

    `hyper`: the most probable ones under the usual prior, `common_length` as HyperPosterior has it. Smooth functions
    are found to their last digits by it, which the usual noise hides; trainings and tables do not speak for it early
    (both measured: docs/measurements.md, "Search with few trials"). Densities are compared at their maxima.
    """
    if len(targets) < _EXACT_FROM or hyper[-1] > _QUIET:
        return hyper
    usual, exact = (HyperPosterior(points, targets, common_length, noise) for noise in (_NOISE, _EXACT))
    start = hyper.copy()
    start[-1] = _EXACT[0]
    optimum, value = _minimum(exact, start, exact.bounds)
    gain = usual(hyper)[0] - value - np.log(_EXACT[1] / _NOISE[1])
    return optimum if gain > _EVIDENCE else hyper


def _minimum(
    density: Callable[[Array], tuple[float, Array]], start: Array, bounds: list[tuple[float, float]]
) -> tuple[Array, float]:
    """Where a search from `start` ends, and the value there."""
    optimum = minimize(density, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS})
    return np.asarray(optimum.x), float(optimum.fun)


def fitted_alike(points: Points, targets: Array) -> Array:
    """The most probable hyperparameters under a prior that holds the length scales near a common one.

    That is found first, with the scale and the noise, all else as the priors expect it (empirical Bayes). A search that
    has nothing but the process needs it: of few trials a length scale for each number by itself is fitted too well, so
    that it follows ripples, or sees nothing outside of the best basin.
    """
    numbers = points.numbers.shape[1]
    if not numbers:
        return fitted(points, targets)
    density = HyperPosterior(points, targets)

    def spread(tied: Array) -> Array:
        flat = density.mean.copy()
        flat[:numbers], flat[-2:] = tied[0], tied[1:]
        return flat

    def tied_density(tied: Array) -> tuple[float, Array]:
        value, gradient = density(spread(tied))
        return value, np.array([gradient[:numbers].sum(), *gradient[-2:]])

    bounds = [density.bounds[0], *density.bounds[-2:]]
    optima = [_minimum(tied_density, start[[0, -2, -1]], bounds) for start in density.starts()]
    common = min(optima, key=lambda optimum: optimum[1])[0]
    near = HyperPosterior(points, targets, common_length=float(common[0]))
    hyper = _minimum(near, spread(common), near.bounds)[0]
    return sharpened(points, targets, hyper, float(common[0]))


class HyperPosterior:
    """Minus the logarithm of the posterior density of the hyperparameters, and its gradient."""

    def __init__(
        self,
        points: Points,
        targets: Array,
        common_length: float | None = None,
        noise: tuple[float, float] = _NOISE,
    ) -> None:
        """`common_length`: the logarithm that all length scales are near to; None: see the module docstring.

        `noise`: mean and deviation of its logarithm.
        """
        self._points, self._targets = points, targets
        self._p, self._q = points.numbers.shape[1], points.categories.shape[1]
        codes = points.categories
        self._differ = (codes[:, None] != codes[None]).transpose(2, 0, 1).astype(np.float64)  # (Q, N, N)
        dimension = max(self._p + self._q, 1)
        # A density of l has its maximum where that of log l, less its variance, has it.
        means = [np.full(self._p, 2.0**0.5 - 3.0 + 0.5 * np.log(dimension)), np.full(2 * self._p, _WARP[0])]
        widths = [np.full(self._p, 3.0**0.5), np.full(2 * self._p, _WARP[1])]
        self.mean = np.concatenate([*means, np.full(self._q, _CATEGORY[0]), [_SCALE[0], noise[0]]])
        self.width = np.concatenate([*widths, np.full(self._q, _CATEGORY[1]), [_SCALE[1], noise[1]]])
        if common_length is not None:
            self.mean[: self._p], self.width[: self._p] = common_length, _ALIKE
        low = np.concatenate([np.full(self._p, np.log(0.01)), np.full(2 * self._p, -1.5), np.full(self._q, -2.0)])
        high = np.concatenate([np.full(self._p, np.log(100.0)), np.full(2 * self._p, 1.5), np.full(self._q, 3.0)])
        least = _LEAST_EXACT if noise == _EXACT else _LEAST_NOISE
        self.bounds = [*zip(low, high, strict=True), (-3.0, 4.0), (np.log(least), 0.0)]

    def starts(self) -> list[Array]:
        """Where the search begins."""
        starts = []
        for share in _STARTS:
            start = self.mean.copy()
            start[: self._p] = np.log(share * max(self._p + self._q, 1) ** 0.5)
            starts.append(start)
        return starts

    def __call__(self, flat: Array) -> tuple[float, Array]:
        hyper = _Hyper.unpacked(flat, self._p, self._q)
        warped, slopes = _warp(self._points.numbers, hyper)
        gaps = warped.T[:, :, None] - warped.T[:, None, :]  # (P, N, N)
        inverse = np.exp(-2.0 * hyper.lengths)[:, None, None]
        squares = gaps * gaps * inverse
        r = _ROOT5 * np.sqrt(squares.sum(0))
        weights = np.exp(hyper.categories)
        outer = np.exp(hyper.scale - r - np.tensordot(weights, self._differ, 1))  # s² C exp(-r)
        clean = outer * (1.0 + r + r * r / 3.0)
        covariance = clean.copy()
        covariance[np.diag_indices_from(covariance)] += np.exp(hyper.noise) + JITTER
        try:
            factor = cholesky(covariance, lower=True)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(flat)
        solved = cho_solve((factor, True), self._targets)
        value = 0.5 * float(self._targets @ solved) + float(np.log(np.diag(factor)).sum())
        outside = 0.5 * (cho_solve((factor, True), np.eye(len(solved))) - np.outer(solved, solved))  # dvalue / dK
        steep = outside * outer * (5.0 / 3.0) * (1.0 + r)  # (N, N)
        by_gap = -steep * gaps * inverse  # (P, N, N), antisymmetric
        turned = 2.0 * by_gap.sum(2)  # (P, N)
        gradient = np.concatenate(
            [
                (steep * squares).sum((1, 2)),
                *((slope.T * turned).sum(1) for slope in slopes),
                -weights * (outside * clean * self._differ).sum((1, 2)),
                [(outside * clean).sum(), np.exp(hyper.noise) * np.trace(outside)],
            ]
        )
        z = (flat - self.mean) / self.width
        return value + 0.5 * float(z @ z), gradient + z / self.width


def _warp(numbers: Array, hyper: _Hyper) -> tuple[Array, tuple[Array, Array]]:
    """w (N, P), and its derivatives by log a and log b."""
    x = np.clip(numbers, _EDGE, 1.0 - _EDGE)
    a, b = np.exp(hyper.warps)
    powered = x**a
    left = 1.0 - powered
    rest = left**b
    by_a = a * b * left ** (b - 1.0) * powered * np.log(x)
    by_b = -b * rest * np.log(left)
    return 1.0 - rest, (by_a, by_b)
