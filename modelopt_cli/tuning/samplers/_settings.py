"""Settings as numbers and categories, for surrogates that tell the two apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._belief import Beliefs
from modelopt_cli.tuning.samplers._features import Features, ordered
from modelopt_cli.tuning.samplers._process import Inputs
from modelopt_cli.tuning.space import Space

Array = NDArray[np.float64]


class Settings:
    """The map between codes (N, dim) of a space, NaN where a parameter does not count, and Inputs."""

    def __init__(self, space: Space) -> None:
        self.space, self.features, self.beliefs = space, Features(space), Beliefs(space)
        self.numeric = np.array([ordered(parameter) for parameter in space.parameters], dtype=bool)
        self.sizes = np.array(
            [int(parameter.size) for parameter in space.parameters if not ordered(parameter)], dtype=np.int64
        )

    def snap(self, codes: Array) -> Array:
        """Codes of the settings that any points of the cube decode to."""
        return np.asarray(self.features.snap(codes))

    def absent(self, codes: Array) -> NDArray[np.bool_]:
        """(N, P): numbers that do not count."""
        return np.isnan(codes[:, self.numeric])

    def inputs(self, codes: Array) -> Inputs:
        """Of snapped codes."""
        numbers = np.nan_to_num(codes[:, self.numeric], nan=0.5)
        other = codes[:, ~self.numeric]
        index = np.floor(np.nan_to_num(other) * self.sizes)
        return Inputs(numbers, np.where(np.isnan(other), -1, np.minimum(index, self.sizes - 1)).astype(np.int64))

    def codes(self, inputs: Inputs) -> Array:
        """Points of the cube (N, dim); to be snapped."""
        out = np.empty((len(inputs), self.space.dim))
        out[:, self.numeric] = inputs.numbers
        out[:, ~self.numeric] = (inputs.categories + 0.5) / self.sizes
        return out
