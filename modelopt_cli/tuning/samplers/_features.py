"""Settings as rows of numbers for a surrogate, for many at once.

A row of `u` is a setting's code in the unit cube, NaN where a parameter does not count (Space.encode). Features: the
code itself, 1/2 where the parameter does not count; for an unordered choice one column a value, 1/sqrt(2) or 0, so that
two values lie at distance 1. A choice of numbers in ascending or descending order counts as ordered.
"""

from __future__ import annotations

import numpy as np

from modelopt_cli.tuning.space.space import Choice, Float, Integer, Parameter, Space


def ordered(parameter: Parameter) -> bool:
    """Whether the parameter has one column."""
    if not isinstance(parameter, Choice):
        return True
    values = parameter.values
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return False
    steps = np.sign(np.diff(np.array(values, dtype=float)))
    return len(values) > 2 and abs(int(steps.sum())) == len(values) - 1


class Features:
    """The map from codes to features of one space."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.parents: list[tuple[int, int] | None] = [None] * space.dim  # (position of the choice, branch)
        for position, branches in sorted(space.below.items()):
            for branch, (start, stop) in enumerate(branches):
                for child in range(start, stop):  # inner choices come later, so the nearest stays
                    self.parents[child] = (position, branch)

    def snap(self, u: np.ndarray) -> np.ndarray:
        """Codes (N, dim) of the settings that any points (N, dim) of the cube decode to; NaN where not active."""
        out = np.array(u, dtype=float)
        for j, parameter in enumerate(self.space.parameters):
            out[:, j] = _snap(parameter, out[:, j])
            parent = self.parents[j]
            if parent is not None:
                position, branch = parent
                code = (branch + 0.5) / self.space.parameters[position].size
                out[~np.isclose(out[:, position], code), j] = np.nan
        return out

    def matrix(self, u: np.ndarray) -> np.ndarray:
        """Features (N, columns) of snapped codes (N, dim)."""
        columns: list[np.ndarray] = []
        for j, parameter in enumerate(self.space.parameters):
            code = u[:, j]
            if ordered(parameter):
                columns.append(np.where(np.isnan(code), 0.5, code))
            else:
                size = int(parameter.size)
                index = np.where(np.isnan(code), -1, np.floor(np.nan_to_num(code) * size))
                columns += [np.where(index == k, 0.5**0.5, 0.0) for k in range(size)]
        return np.stack(columns, axis=1)


def _snap(parameter: Parameter, code: np.ndarray) -> np.ndarray:
    code = np.clip(code, 0.0, 1.0)
    if isinstance(parameter, Integer) and parameter.log:
        a, b = np.log(parameter.low - 0.5), np.log(parameter.high + 0.5)
        value = np.clip(np.floor(np.exp(a + (b - a) * code) + 0.5), parameter.low, parameter.high)
        return np.asarray((np.log(value) - a) / (b - a))
    if isinstance(parameter, Float) and not np.isfinite(parameter.size):
        return code
    return np.asarray((np.minimum(np.floor(code * parameter.size), parameter.size - 1) + 0.5) / parameter.size)
