"""Settings as rows of numbers for a model, many at once.

A setting's code (dim,) is a point of the unit cube, NaN where a parameter does not count (Space.encode). Models that
tell numbers from categories take `Points`: numbers are columns in [0, 1], and so are ordered values; an unordered
choice is the index of its value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._common.priors import Priors
from modelopt_cli.tuning.space.space import Float, Integer, Parameter, Space
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


def parents(space: Space) -> list[tuple[int, int] | None]:
    """Of each parameter the position of the nearest choice above, and the branch under which the parameter counts."""
    nearest: list[tuple[int, int] | None] = [None] * space.dim
    for position, branches in sorted(space.below.items()):
        for branch, (start, stop) in enumerate(branches):
            nearest[start:stop] = [(position, branch)] * (stop - start)  # inner choices come later
    return nearest


@dataclass(frozen=True, eq=False)
class Points:
    """N settings. Numbers that do not count are 1/2, categories -1."""

    numbers: Array  # (N, P) in [0, 1]
    categories: NDArray[np.int64]  # (N, Q)

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, index: NDArray[np.int64]) -> Points:
        """Some of them."""
        return Points(self.numbers[index], self.categories[index])


class Encoding:
    """The maps between codes (N, dim) of a space and Points; the space's priors beside them."""

    def __init__(self, space: Space) -> None:
        self.space, self.priors = space, Priors(space)
        self.numeric = np.array([parameter.ordered for parameter in space.parameters], dtype=bool)
        self.sizes = np.array(
            [int(parameter.size) for parameter in space.parameters if not parameter.ordered], dtype=np.int64
        )
        """(Q,): values of each category."""
        self._parents = parents(space)

    def snap(self, points: Array) -> Array:
        """Codes (N, dim) of the settings that any points (N, dim) of the cube decode to; NaN where not active."""
        codes = np.array(points, dtype=float)
        for j, parameter in enumerate(self.space.parameters):
            codes[:, j] = _snapped(parameter, codes[:, j])
            parent = self._parents[j]
            if parent is not None:
                position, branch = parent
                code = (branch + 0.5) / self.space.parameters[position].size
                codes[~np.isclose(codes[:, position], code), j] = np.nan
        return codes

    def absent(self, codes: Array) -> NDArray[np.bool_]:
        """(N, P): numbers that do not count."""
        return np.isnan(codes[:, self.numeric])

    def points(self, codes: Array) -> Points:
        """Of snapped codes."""
        numbers = np.nan_to_num(codes[:, self.numeric], nan=0.5)
        other = codes[:, ~self.numeric]
        index = np.floor(np.nan_to_num(other) * self.sizes)
        return Points(numbers, np.where(np.isnan(other), -1, np.minimum(index, self.sizes - 1)).astype(np.int64))

    def unsnapped(self, points: Points) -> Array:
        """Rows of the cube (N, dim); to be snapped."""
        rows = np.empty((len(points), self.space.dim))
        rows[:, self.numeric] = points.numbers
        rows[:, ~self.numeric] = (points.categories + 0.5) / self.sizes
        return rows


def share_bounds(parameter: Parameter, codes: Array) -> tuple[Array, Array]:
    """(N,) each, of snapped codes: where a value's share of [0, 1] begins and ends; the same where it is continuous."""
    if isinstance(parameter, Float) and not np.isfinite(parameter.size):
        return codes, codes
    if isinstance(parameter, Integer) and parameter.log:
        low, high, values = _log_axis(parameter, codes)
        if not high > low:  # see Integer.encode
            return np.zeros_like(codes), np.ones_like(codes)
        return (np.log(values - 0.5) - low) / (high - low), (np.log(values + 0.5) - low) / (high - low)
    half = 0.5 / parameter.size
    return codes - half, codes + half


def _snapped(parameter: Parameter, codes: Array) -> Array:
    """(N,): each code as its value has it, as Parameter.encode after Parameter.decode."""
    codes = np.clip(codes, 0.0, 1.0)
    if isinstance(parameter, Float) and not np.isfinite(parameter.size):
        return codes
    if isinstance(parameter, Integer) and parameter.log:
        low, high, values = _log_axis(parameter, codes)
        return np.asarray((np.log(values) - low) / (high - low)) if high > low else np.full_like(codes, 0.5)
    return np.asarray((np.minimum(np.floor(codes * parameter.size), parameter.size - 1) + 0.5) / parameter.size)


def _log_axis(parameter: Integer, codes: Array) -> tuple[float, float, Array]:
    """The ends of a logarithmic axis of whole numbers, half a unit beyond the range, and the values (N,) at codes.

    As space/parameters.py has it for one value, by numpy's logarithm, whose last bit may differ from that of `math`.
    """
    low, high = float(np.log(parameter.low - 0.5)), float(np.log(parameter.high + 0.5))
    return low, high, np.clip(np.floor(np.exp(low + (high - low) * codes) + 0.5), parameter.low, parameter.high)
