"""Settings as points for CMA-ES: numbers on axes in [0, 1], discrete ones spread over their share, and categories."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._features import ordered
from modelopt_cli.tuning.space.space import Float, Integer, Parameter, Space

Array = NDArray[np.float64]


class Axes:
    """Which parameters of a space are numbers and which are categories; those with one value are neither."""

    def __init__(self, space: Space) -> None:
        self.space = space
        free = [position for position, parameter in enumerate(space.parameters) if parameter.size > 1]
        self.numbers = [position for position in free if ordered(space.parameters[position])]
        self.categories = [position for position in free if position not in set(self.numbers)]
        self.sizes = [int(space.parameters[position].size) for position in self.categories]

    def shares(self, codes: Array) -> tuple[Array, Array]:
        """(N, P) each: where the share of [0, 1] that a number's value has begins and ends (the same: continuous)."""
        pairs = [_share(self.space.parameters[position], codes[:, position]) for position in self.numbers]
        if not pairs:
            return np.empty((len(codes), 0)), np.empty((len(codes), 0))
        low, high = (np.stack(side, axis=1) for side in zip(*pairs, strict=True))
        return low, high

    def chosen(self, codes: Array) -> NDArray[np.int64]:
        """(N, Q): index of each category's value, -1 where it does not count."""
        own = codes[:, self.categories] * np.array(self.sizes)
        return np.where(np.isnan(own), -1, np.floor(np.nan_to_num(own))).astype(np.int64)

    def codes(self, numbers: Array, chosen: NDArray[np.int64]) -> Array:
        """(dim,) of one point: numbers (P,), categories (Q,)."""
        out = np.full(self.space.dim, 0.5)
        out[self.numbers] = numbers
        out[self.categories] = (chosen + 0.5) / np.array(self.sizes)
        return out


def _share(parameter: Parameter, codes: Array) -> tuple[Array, Array]:
    if isinstance(parameter, Float) and not np.isfinite(parameter.size):
        return codes, codes
    if isinstance(parameter, Integer) and parameter.log:
        a, b = np.log(parameter.low - 0.5), np.log(parameter.high + 0.5)
        value = np.round(np.exp(a + (b - a) * codes))
        return (np.log(value - 0.5) - a) / (b - a), (np.log(value + 0.5) - a) / (b - a)
    half = 0.5 / parameter.size
    return codes - half, codes + half
