"""Parzen estimators of good and of other settings, over all parameters jointly.

Bergstra et al., NIPS 2011, "Algorithms for hyper-parameter optimization", section 4; multivariate kernels: Falkner et
al., ICML 2018, "BOHB", section 3.2. A kernel a setting: truncated normal in each number, a share that stays in each
category; beside them a uniform one. A parameter that does not count in a kernel's setting is uniform there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr, ndtri

from modelopt_cli.tuning.samplers._process import Inputs

Array = NDArray[np.float64]


class Parzen:
    """A mixture of kernels at settings, and the uniform distribution."""

    def __init__(self, inputs: Inputs, absent: NDArray[np.bool_], sizes: NDArray[np.int64], weights: Array) -> None:
        """`absent` (K, P): numbers that do not count; `sizes` (Q,): values of each category; `weights` (K,)."""
        self._inputs, self._absent, self._sizes = inputs, absent, sizes
        count = max(len(inputs), 1)
        dimension = max(inputs.numbers.shape[1] + inputs.categories.shape[1], 1)
        self._width = max(0.2 * count ** (-1.0 / (dimension + 4)), 0.01)
        self._stay = 1.0 - min(0.5, 1.0 / (1.0 + count))  # a category's share that stays, the rest is spread evenly
        mixture = np.append(weights, weights.mean() if len(weights) else 1.0)
        self._weights = mixture / mixture.sum()

    def sample(self, rng: np.random.Generator, count: int) -> Inputs:
        """Settings (count,), every parameter with a value whether it counts or not."""
        k = len(self._inputs)
        chosen = rng.choice(k + 1, size=count, p=self._weights)
        uniform = chosen == k
        place = np.where(uniform, 0, chosen)
        p, q = self._inputs.numbers.shape[1], self._inputs.categories.shape[1]
        numbers = rng.random((count, p))
        if k and p:
            centres = self._inputs.numbers[place]
            low, high = ndtr((0.0 - centres) / self._width), ndtr((1.0 - centres) / self._width)
            drawn = centres + self._width * ndtri(np.clip(low + numbers * (high - low), 1e-12, 1 - 1e-12))
            free = uniform[:, None] | self._absent[place]
            numbers = np.where(free, numbers, np.clip(drawn, 0.0, 1.0))
        categories = rng.integers(0, np.maximum(self._sizes, 1), size=(count, q))
        if k and q:
            own = self._inputs.categories[place]
            stays = (rng.random((count, q)) < self._stay) & ~uniform[:, None] & (own >= 0)
            categories = np.where(stays, own, categories)
        return Inputs(numbers, categories)

    def log_density(self, inputs: Inputs, absent: NDArray[np.bool_]) -> Array:
        """(M,) of settings; numbers that do not count in one (`absent`) add nothing to it."""
        m, k = len(inputs), len(self._inputs)
        logs = np.zeros((m, k + 1))
        for d in range(inputs.numbers.shape[1]):
            centres = self._inputs.numbers[None, :, d]
            z = (inputs.numbers[:, d, None] - centres) / self._width
            mass = np.log(ndtr((1.0 - centres) / self._width) - ndtr((0.0 - centres) / self._width))
            normal = -0.5 * z * z - np.log(self._width) - 0.5 * np.log(2.0 * np.pi) - mass
            skip = absent[:, d, None] | self._absent[None, :, d]
            logs[:, :k] += np.where(skip, 0.0, normal)
        for c, size in enumerate(self._sizes):
            own, kernel = inputs.categories[:, c, None], self._inputs.categories[None, :, c]
            spread = (1.0 - self._stay) / size
            kept = np.log(np.where(own == kernel, self._stay + spread, spread))
            uniform = -np.log(size)
            logs[:, :k] += np.where(own < 0, 0.0, np.where(kernel < 0, uniform, kept))
            logs[:, k] += np.where(own[:, 0] < 0, 0.0, uniform)
        return np.asarray(logsumexp(logs + np.log(self._weights)[None], axis=1))
