"""Settings as numbers and categories, for surrogates that tell the two apart."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._belief import Beliefs
from modelopt_cli.tuning.samplers._features import Features, ordered
from modelopt_cli.tuning.samplers._process import Inputs
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import Params

Array = NDArray[np.float64]


_codes: WeakKeyDictionary[Space, dict[int, tuple[Params, Array]]] = WeakKeyDictionary()


def encoded(space: Space, settings: Sequence[Params]) -> Array:
    """Codes (N, dim). What was encoded is remembered by identity: the settings of trials never change."""
    known = _codes.setdefault(space, {})
    for params in settings:
        if id(params) not in known:
            known[id(params)] = params, space.encode(params)
    return np.reshape([known[id(params)][1] for params in settings], (-1, space.dim))


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
