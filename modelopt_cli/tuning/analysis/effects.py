"""What one parameter, or two together, do to the result: a process of what a search measured, averaged over the rest.

The effect of a value is the mean of the process over settings that have it and are otherwise random (a Sobol sequence
over the space), in the branch where the parameter counts; its deviation is the process's own there, averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.analysis.finished_trials import FinishedTrials
from modelopt_cli.tuning.analysis.surrogate import Surrogate
from modelopt_cli.tuning.samplers._common.encoding import parents
from modelopt_cli.tuning.space.parameters import Choice, Ordinal, Parameter
from modelopt_cli.tuning.space.space import Space

Array = NDArray[np.float64]

_HELD = 200  # trials that the process is conditioned on
_OTHERS = 64  # random settings that an effect is averaged over
_WHOLE = 1024  # that the variance is taken over


class Branches:
    """Which choices decide on a parameter, by positions in the space."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._parents = parents(space)

    def above(self, *positions: int) -> dict[int, int]:
        """The choices above parameters, each with the branch under which they stand."""
        branches: dict[int, int] = {}
        for position in positions:
            parent = self._parents[position]
            while parent is not None:
                choice, branch = parent
                branches[choice] = branch
                parent = self._parents[choice]
        return branches

    def share(self, *positions: int) -> float:
        """The share of random settings in which parameters count."""
        return float(np.prod([1.0 / len(self.space.below[choice]) for choice in self.above(*positions)]))

    def together(self, a: int, b: int) -> bool:
        """Whether two parameters can count in one setting, neither deciding on the other."""
        over, under = self.above(a), self.above(b)
        agree = all(under.get(choice, branch) == branch for choice, branch in over.items())
        return a != b and agree and a not in under and b not in over


@dataclass(frozen=True, eq=False)
class Effect:
    """At each of G values of a parameter, or G x H of two: mean and deviation, in the loss's unit."""

    codes: tuple[Array, ...]  # (G,), or (G,) and (H,)
    mean: Array
    deviation: Array
    widths: tuple[Array, ...]  # shares of random settings that each value stands for; they sum to 1
    unit: float  # deviation of what was measured

    @property
    def variance(self) -> float:
        """Of the mean, over random values; 1 is the variance of what was measured."""
        share = self.widths[0] if len(self.widths) == 1 else np.outer(*self.widths)
        mean = self.mean / self.unit
        return float((share * (mean - (share * mean).sum()) ** 2).sum())


class Effects:
    """Effects in a space, by a process of what was measured. `surrogate`: one fitted before."""

    def __init__(self, space: Space, finished: FinishedTrials, surrogate: Surrogate | None = None) -> None:
        self.space, self.branches = space, Branches(space)
        self.surrogate = Surrogate(space, finished.params, finished.losses, _HELD) if surrogate is None else surrogate

    @cached_property
    def _random(self) -> Array:
        """(_WHOLE, dim): points of the cube, evenly spread."""
        from scipy.stats import qmc

        return np.asarray(qmc.Sobol(self.space.dim, rng=np.random.default_rng(0)).random(_WHOLE))

    @cached_property
    def variance(self) -> float:
        """Of the process's mean over random settings; 1 is the variance of what was measured."""
        mean, _ = self.surrogate.predict(self.surrogate.encoding.snap(self._random))
        return float((mean / self.surrogate.scale).var())

    def of(self, position: int, values: int = 25, *, ends: bool = True) -> Effect:
        """Of the parameter at `position` in the space, at `values` values at most (a choice: at all); see `grid`."""
        codes, widths = grid(self.space.parameters[position], values, ends=ends)
        mean, deviation = self._averaged((position,), codes[:, None])
        return Effect((codes,), mean, deviation, (widths,), self.surrogate.scale)

    def of_two(self, a: int, b: int, values: int = 12) -> Effect:
        """Of two parameters that can count together."""
        first, second = (grid(self.space.parameters[position], values) for position in (a, b))
        points = np.stack(np.meshgrid(first[0], second[0], indexing="ij"), axis=-1).reshape(-1, 2)
        shape = (len(first[0]), len(second[0]))
        mean, deviation = (each.reshape(shape) for each in self._averaged((a, b), points))
        return Effect((first[0], second[0]), mean, deviation, (first[1], second[1]), self.surrogate.scale)

    def _averaged(self, positions: tuple[int, ...], points: Array) -> tuple[Array, Array]:
        """(G,) mean and deviation at points (G, len(positions)) of these parameters."""
        cube = np.repeat(self._random[None, :_OTHERS], len(points), axis=0)  # (G, _OTHERS, dim)
        for choice, branch in self.branches.above(*positions).items():
            cube[:, :, choice] = (branch + 0.5) / len(self.space.below[choice])
        cube[:, :, list(positions)] = points[:, None]
        predictions = self.surrogate.predict(self.surrogate.encoding.snap(cube.reshape(-1, self.space.dim)))
        mean, deviation = (column.reshape(len(points), _OTHERS).mean(axis=1) for column in predictions)
        return mean, deviation


def grid(parameter: Parameter, values: int, *, ends: bool = True) -> tuple[Array, Array]:
    """Codes (G,) of values of a parameter, ascending, and the width (G,) of the unit interval that each stands for.

    Every value when these are few or listed; else spread evenly, from end to end or, without `ends`, over the middles
    of equal stretches, which a mean over the range is taken by.
    """
    if parameter.size <= values or isinstance(parameter, Choice | Ordinal):
        codes = np.array([parameter.encode(value) for value in parameter.uncounted().grid()])
    else:
        spread = np.linspace(0.0, 1.0, values) if ends else (np.arange(values) + 0.5) / values
        codes = np.unique([parameter.encode(parameter.decode(float(u))) for u in spread])
    edges = np.concatenate([[0.0], (codes[1:] + codes[:-1]) / 2.0, [1.0]])
    return codes, np.diff(edges)
