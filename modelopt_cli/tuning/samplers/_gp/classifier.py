"""How probable it is that a setting does not fail: a Gaussian process classifier with planes on logarithmic axes.

What fails does so mostly beyond a wall: memory is a product of sizes, time another one, and a rate is too high for a
depth. On logarithmic axes such a wall is a plane, or nearly one, so few trials on both sides tell where it stands. So
the latent function of the classifier is a sum of two processes: a linear one, whose weights are as many as there are
axes, and one with the covariance of process.py for all that is no plane (regions, branches, curved walls).

f ~ N(0, a² M C + b² (1 + z · z)); P(a trial does not fail) = Phi(f). The posterior is Laplace's (Rasmussen and Williams
2006, "Gaussian processes for machine learning", algorithms 3.1 and 3.2, with the probit of section 3.9), a and b are
those with the greatest evidence of a few.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.special import log_ndtr

from modelopt_cli.tuning.samplers._common.encoding import Encoding
from modelopt_cli.tuning.space.parameters import Choice, Float, Integer, Ordinal, Parameter

Array = NDArray[np.float64]
Covariance = Callable[[Array, Array], Array]
"""(M, N) of snapped codes (M, dim) and (N, dim)."""

_CURVED, _PLANE = (0.3, 1.0, 3.0), (1.0, 5.0, 25.0)  # a and b
_FITTED = 80  # trials that a and b are chosen by
_JITTER = 1e-6
_ROUNDS, _CLOSE = 30, 1e-4  # of Newton's method, which ends where it gains less
_HALF_LOG_2PI = 0.5 * np.log(2.0 * np.pi)


class Axes:
    """Settings as z (M, A), the axes on which walls are planes: each number's own, and its logarithm beside it."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._logs = [
            (position, log) for position, each in enumerate(encoding.space.parameters) if (log := _logarithm(each))
        ]

    def __call__(self, codes: Array) -> Array:
        """Of snapped codes (M, dim), each axis in [-1, 1]; 0 where a number does not count."""
        own = 2.0 * codes[:, self._encoding.numeric] - 1.0
        logs = [log(codes[:, position]) for position, log in self._logs]
        return np.nan_to_num(np.column_stack([own, *logs]), nan=0.0)


def _logarithm(parameter: Parameter) -> Callable[[Array], Array] | None:
    """From codes to the logarithm of a value, as [-1, 1]; None where the code is that, or there is none."""
    if isinstance(parameter, Choice | Ordinal):
        if not parameter.ordered or not all(_positive(value) for value in parameter.values):
            return None
        logs = np.log(np.array(parameter.values, dtype=float))
        table = 2.0 * (logs - logs.min()) / (np.ptp(logs) or 1.0) - 1.0
        size = len(table)
        return lambda codes: np.where(
            np.isnan(codes), np.nan, table[np.minimum(np.nan_to_num(codes) * size, size - 1).astype(int)]
        )
    if isinstance(parameter, Float | Integer) and not parameter.log and 0 < parameter.low < parameter.high:
        low, high = float(parameter.low), float(parameter.high)
        return lambda codes: 2.0 * np.log((low + codes * (high - low)) / low) / np.log(high / low) - 1.0
    return None


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


@dataclass(frozen=True, eq=False)
class _Mode:
    """Laplace's approximation about the most probable latent values of N trials."""

    evidence: float
    gradient: Array  # (N,) of the log likelihood
    root: Array  # (N,) of minus its second derivative
    factor: Array  # (N, N), lower: of I + root K root


class Classifier:
    """Of trials that failed and of others."""

    def __init__(self, codes: Array, labels: Array, axes: Axes, curved: Covariance, rng: np.random.Generator) -> None:
        """`labels` (N,): 1, or -1 for a failure. `curved`: a covariance with variance 1, for what is no plane."""
        self._codes, self._axes, self._curved = codes, axes, curved
        bent, plane = curved(codes, codes), self._plane(codes, codes)
        some = np.arange(len(codes))
        if len(some) > _FITTED:
            some = rng.choice(some, size=_FITTED, replace=False)
        own = np.ix_(some, some)
        pairs = [(a * a, b * b) for a, b in itertools.product(_CURVED, _PLANE)]
        evidence = [_mode(a * bent[own] + b * plane[own], labels[some]).evidence for a, b in pairs]
        a, b = self._scales = pairs[int(np.argmax(evidence))]
        self._mode = _mode(a * bent + b * plane, labels)

    def _plane(self, codes: Array, others: Array) -> Array:
        one, other = self._axes(codes), self._axes(others)
        return np.asarray((1.0 + one @ other.T) / (1.0 + one.shape[1]))

    def log_probability(self, codes: Array) -> Array:
        """(M,): that a setting does not fail."""
        a, b = self._scales
        cross = a * self._curved(codes, self._codes) + b * self._plane(codes, self._codes)  # (M, N)
        axes = self._axes(codes)
        prior = a + b * (1.0 + (axes * axes).sum(1)) / (1.0 + axes.shape[1])
        solved = solve_triangular(self._mode.factor, self._mode.root[:, None] * cross.T, lower=True)
        variance = np.maximum(prior - (solved * solved).sum(0), 1e-12)
        return np.asarray(log_ndtr(cross @ self._mode.gradient / np.sqrt(1.0 + variance)))


def _mode(covariance: Array, labels: Array) -> _Mode:
    """By Newton's method (algorithm 3.1), from 0."""
    count = len(labels)
    latent, weights = np.zeros(count), np.zeros(count)  # latent = covariance @ weights
    value = -np.inf
    for _ in range(_ROUNDS):
        log_likelihood, gradient, curvature = _likelihood(latent, labels)
        last, value = value, float(log_likelihood.sum() - 0.5 * weights @ latent)
        root = np.sqrt(curvature)
        inner = root[:, None] * covariance * root
        inner[np.diag_indices(count)] += 1.0 + _JITTER
        factor = cholesky(inner, lower=True)
        if value - last < _CLOSE:
            break
        towards = curvature * latent + gradient
        solved = solve_triangular(factor, root * (covariance @ towards), lower=True)
        weights = towards - root * solve_triangular(factor.T, solved, lower=False)
        latent = covariance @ weights
    return _Mode(value - float(np.log(np.diag(factor)).sum()), gradient, root, factor)


def _likelihood(latent: Array, labels: Array) -> tuple[Array, Array, Array]:
    """log Phi(y f), its first derivative, and minus its second, (N,) each (Rasmussen and Williams, eq. 3.16)."""
    signed = labels * latent
    logs = log_ndtr(signed)
    ratio = np.exp(-0.5 * signed * signed - _HALF_LOG_2PI - logs)  # phi / Phi
    return logs, labels * ratio, np.maximum(ratio * (ratio + signed), 1e-12)
