"""A Gaussian process of what was measured at settings, in the measurement's own unit: for reports, not for suggestions.

It is the process of the sampler `bayesian` (samplers/_gp/process.py), fitted without any randomness.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._common.encoding import Encoding, encoded
from modelopt_cli.tuning.samplers._common.history import subset
from modelopt_cli.tuning.samplers._gp.process import Process, fitted, fitted_sharply
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import Params

Array = NDArray[np.float64]

_FITTED = 100  # settings that hyperparameters are fitted to
_AT_ONCE = 2048  # settings that are predicted in one go


class Surrogate:
    """Fitted to values (N,) at N settings; nothing in it is random."""

    def __init__(
        self, space: Space, params: Sequence[Params], values: Array, most: int = 400, sharp: bool = False
    ) -> None:
        """`most`: settings at most that the process is conditioned on, fewer for its hyperparameters.

        `sharp`: values without noise are recognised, for what is asked about next to the best setting.
        """
        self.encoding = Encoding(space)
        kept = subset(values, most)
        self.codes = encoded(space, [params[index] for index in kept])  # (N, dim)
        values = values[kept]
        largest = float(np.abs(values).max()) or 1.0  # so that no square overflows
        self._mean = largest * float((values / largest).mean())
        self.scale = largest * float((values / largest).std()) or 1.0
        self._targets = (values - self._mean) / self.scale
        chosen = subset(self._targets, _FITTED)
        fit = fitted_sharply if sharp else fitted
        hyper = fit(self.encoding.points(self.codes[chosen]), self._targets[chosen])
        self._process = Process(self.encoding.points(self.codes), self._targets, hyper)

    def without_parts(self, parts: int) -> list[Surrogate]:
        """The same hyperparameters without every `parts`-th setting, from the first, second, ... one on."""
        return [self._only(np.arange(len(self._targets)) % parts != part) for part in range(parts)]

    def _only(self, kept: NDArray[np.bool_]) -> Surrogate:
        other = copy.copy(self)
        other.codes, other._targets = self.codes[kept], self._targets[kept]
        other._process = self._process.with_points(self.encoding.points(other.codes), other._targets)
        return other

    def predict(self, codes: Array) -> tuple[Array, Array]:
        """Mean (M,) and standard deviation (M,), without noise, at snapped codes (M, dim)."""
        parts = [
            self._process.predict(self.encoding.points(codes[start : start + _AT_ONCE]))
            for start in range(0, len(codes), _AT_ONCE)
        ]
        mean, deviation = (np.concatenate(part) for part in zip(*parts, strict=True))
        return self._mean + self.scale * mean, self.scale * deviation

    @property
    def noise(self) -> float:
        """Variance of the noise."""
        return self.scale**2 * self._process.noise

    def joint(self, codes: Array) -> tuple[Array, Array]:
        """Mean (M,) and covariance (M, M), without noise, at snapped codes (M, dim)."""
        queries = self._process.at(self.encoding.points(codes))
        mean, _ = self._process.posterior(queries)
        return self._mean + self.scale * mean, self.scale**2 * self._process.joint(queries)
