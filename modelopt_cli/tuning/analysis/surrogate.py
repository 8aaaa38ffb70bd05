"""A Gaussian process of what was measured at settings, in its own unit: for what is said about a search, not for it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._process import Process
from modelopt_cli.tuning.samplers._settings import Settings
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import Params

Array = NDArray[np.float64]

_FITTED = 100  # settings that hyperparameters are fitted to
_AT_ONCE = 2048  # settings that are predicted in one go


class Surrogate:
    """Fitted to values (N,) at N settings; nothing in it is random."""

    def __init__(self, space: Space, params: Sequence[Params], values: Array, held: int = 400) -> None:
        """`held`: settings at most that the process is conditioned on, fewer for its hyperparameters."""
        self.settings = Settings(space)
        kept = _spread(values, held)
        self.codes = np.stack([space.encode(params[index]) for index in kept])  # (N, dim)
        values = values[kept]
        largest = float(np.abs(values).max()) or 1.0  # so that no square overflows
        self._mean = largest * float((values / largest).mean())
        self.scale = largest * float((values / largest).std()) or 1.0
        self._y = (values - self._mean) / self.scale
        fitted = _spread(self._y, _FITTED)
        hyper = Process(self.settings.inputs(self.codes[fitted]), self._y[fitted]).hyper
        self._process = Process(self.settings.inputs(self.codes), self._y, hyper)

    def without_parts(self, parts: int) -> list[Surrogate]:
        """The same hyperparameters without every `parts`-th setting, from the first, second, ... one on."""
        return [self._only(np.arange(len(self._y)) % parts != part) for part in range(parts)]

    def _only(self, kept: NDArray[np.bool_]) -> Surrogate:
        found = copy.copy(self)
        found.codes, found._y = self.codes[kept], self._y[kept]
        found._process = self._process.with_points(self.settings.inputs(found.codes), found._y)
        return found

    def predict(self, codes: Array) -> tuple[Array, Array]:
        """Mean (M,) and standard deviation (M,), without noise, at snapped codes (M, dim)."""
        parts = [
            self._process.predict(self.settings.inputs(codes[start : start + _AT_ONCE]))
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
        spots = self._process.at(self.settings.inputs(codes))
        mean, _ = self._process.believed(spots)
        return self._mean + self.scale * mean, self.scale**2 * self._process.joint(spots)


def _spread(values: Array, most: int) -> NDArray[np.int64]:
    """Indices of all, or of the better half of `most` and of as many spread evenly over the rest, in order."""
    if len(values) <= most:
        return np.arange(len(values))
    order = np.argsort(values, kind="stable")
    half = most // 2
    rest = np.linspace(half, len(order) - 1, most - half).round().astype(int)
    return np.sort(np.concatenate([order[:half], order[rest]]))
