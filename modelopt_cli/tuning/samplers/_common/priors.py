"""Priors: where the user expects good settings, for samplers that have models.

Hvarfner et al., ICLR 2022, "piBO: Augmenting acquisition functions with user beliefs", eq. 6: what a point promises is
multiplied by pi(x)^(beta / n) after n trials, so that a wrong prior is forgotten. pi is a mixture: the share
`confidence` of it lies on the category that was named, or about the number (normal on its axis, which is the logarithm
with `log`, within its range, with a deviation of 1 - confidence of it); the rest is even, so that no prior rules a
value out. Of parameters without a prior pi is 1: all densities are relative to even draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from modelopt_cli.tuning.space.parameters import Parameter, Prior
from modelopt_cli.tuning.space.space import Space

Array = NDArray[np.float64]

_BETA = 10.0  # the paper's choice, a tenth of the trials, for 100 of them
_DRAWS = 200  # candidates from the prior, beside a search's own


class Priors:
    """The priors of a space's parameters."""

    def __init__(self, space: Space) -> None:
        self._dim = space.dim
        self._stated = [
            (position, _Normal(parameter, prior) if parameter.ordered else _Categorical(parameter, prior))
            for position, parameter in enumerate(space.parameters)
            if (prior := parameter.prior) is not None
        ]

    @property
    def stated(self) -> bool:
        """Whether any parameter has one."""
        return bool(self._stated)

    def first(self, trials: int, rng: np.random.Generator) -> Array | None:
        """A draw (dim,) for a trial that a scheduler begins without a model, or None.

        For one in two at first, for ever fewer as `trials` leave less of the prior. Without one `rng` is not used.
        """
        if not self._stated or rng.random() >= 0.5 * min(1.0, _BETA / max(trials, 1)):
            return None
        return np.asarray(self.shaped(rng.random((1, self._dim)))[0])

    def log_density(self, codes: Array) -> Array:
        """(N,) of codes (N, dim), NaN where a parameter does not count: it adds nothing."""
        density = np.zeros(len(codes))
        for position, prior in self._stated:
            counts = ~np.isnan(codes[:, position])
            density[counts] += prior.log_density(codes[counts, position])
        return density

    def weighted(self, merit: Array, codes: Array, trials: int) -> Array:
        """The logarithm of a merit (N,), with that of the prior added in the measure that `trials` leave it."""
        return merit + _BETA / max(trials, 1) * self.log_density(codes) if self._stated else merit

    def with_draws(self, points: Array, rng: np.random.Generator) -> Array:
        """Points (N, dim) of the cube, and some more drawn from the prior; as they are where there is none."""
        return np.concatenate([points, self.shaped(rng.random((_DRAWS, self._dim)))]) if self._stated else points

    def shaped(self, points: Array) -> Array:
        """Even points (N, dim) of the cube as draws from the prior."""
        draws = np.array(points)
        for position, prior in self._stated:
            draws[:, position] = prior.drawn(points[:, position])
        return draws

    def design(self, points: Array, start: int) -> Array:
        """Points `start`, ... of a design, each second one shaped by the prior."""
        odd = (np.arange(start, start + len(points)) % 2 == 1)[:, None]
        return np.where(odd, self.shaped(points), points)


class _Normal:
    """A truncated normal on [0, 1], and an even rest."""

    def __init__(self, parameter: Parameter, prior: Prior) -> None:
        self._mean, self._share = parameter.encode(prior.value), prior.confidence
        self._deviation = 1.0 - prior.confidence
        self._low, self._high = (float(ndtr((end - self._mean) / self._deviation)) for end in (0.0, 1.0))

    def log_density(self, code: Array) -> Array:
        z = (code - self._mean) / self._deviation
        mass = (self._high - self._low) * self._deviation * np.sqrt(2.0 * np.pi)
        return np.asarray(np.log(self._share * np.exp(-0.5 * z * z) / mass + 1.0 - self._share))

    def drawn(self, u: Array) -> Array:
        share = self._share
        inner = self._low + np.minimum(u / share, 1.0) * (self._high - self._low)
        normal = self._mean + self._deviation * ndtri(np.clip(inner, 1e-15, 1.0 - 1e-15))
        return np.where(u < share, np.clip(normal, 0.0, 1.0), np.clip((u - share) / (1.0 - share), 0.0, 1.0))


class _Categorical:
    """A distribution over categories, each an equal share of [0, 1] before."""

    def __init__(self, parameter: Parameter, prior: Prior) -> None:
        size = int(parameter.size)
        self._shares = np.full(size, (1.0 - prior.confidence) / size)
        self._shares[int(parameter.encode(prior.value) * size)] += prior.confidence
        self._ends = np.concatenate([[0.0], np.cumsum(self._shares)])

    def log_density(self, code: Array) -> Array:
        size = len(self._shares)
        return np.asarray(np.log(size * self._shares[np.minimum((code * size).astype(int), size - 1)]))

    def drawn(self, u: Array) -> Array:
        size = len(self._shares)
        index = np.clip(np.searchsorted(self._ends, u, side="right") - 1, 0, size - 1)
        return np.asarray((index + 0.5) / size)
