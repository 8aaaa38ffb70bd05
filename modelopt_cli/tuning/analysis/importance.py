"""Which parameters a search's result depends on: a functional analysis of variance of what it measured.

Hutter, Hoos & Leyton-Brown, ICML 2014: the importance of a parameter is the share of the variance over the space that
its main effect explains (Sobol 1993, first order); what the shares lack to 1 is interactions. They take a random forest
apart; here the effects are those of the search's own Gaussian process, which needs far fewer trials for them
(tests/tuning/test_importance.py). A parameter that counts in one branch only is judged within it, and its variance
there weighted by the branch's share of random settings: its main effect together with its interaction with the choices
above it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.analysis.effects import Effect, Effects
from modelopt_cli.tuning.analysis.finished_trials import FinishedTrials
from modelopt_cli.tuning.space.space import Space

_LEAST = 5  # trials in which a parameter counts, to say something about it
_PARTS = 8  # of the trials, each left out once for the deviations
_CANDIDATES = 4  # the most important parameters, whose pairs are looked at


@dataclass(frozen=True)
class Importance:
    """Of the parameter at `position` in the space; None where too few trials say something about it."""

    position: int
    share: float | None  # of the variance, in [0, 1]
    deviation: float | None  # by the jackknife
    trials: int  # in which it counts


class Analysis:
    """A process of what a search measured, taken apart. Nothing in it is random."""

    def __init__(self, space: Space, finished: FinishedTrials) -> None:
        self.effects = Effects(space, finished)
        codes = np.stack([space.encode(params) for params in finished.params])
        self._counted = (~np.isnan(codes)).sum(axis=0)  # (dim,)
        self._without = [
            Effects(space, finished, surrogate) for surrogate in self.effects.surrogate.without_parts(_PARTS)
        ]

    def importances(self) -> list[Importance]:
        """Of every parameter, in order of position."""
        return [self._of(position) for position in range(self.effects.space.dim)]

    def _of(self, position: int) -> Importance:
        trials = int(self._counted[position])
        if trials < _LEAST or self.effects.variance <= 0:
            return Importance(position, None, None, trials)
        parts = np.array([_share(each, position) for each in self._without])
        return Importance(position, _share(self.effects, position), _jackknife(parts), trials)

    def pairs(self, importances: list[Importance], most: int = 3) -> list[tuple[int, int, Effect]]:
        """The effects of the pairs that explain most together, of the most important parameters."""
        ranked = sorted(importances, key=lambda each: -(each.share or 0.0))
        positions = [each.position for each in ranked if each.share is not None][:_CANDIDATES]
        effects, rows = self.effects, []
        for a, b in combinations(sorted(positions), 2):
            if effects.branches.together(a, b):
                effect = effects.of_two(a, b)
                rows.append((effects.branches.share(a, b) * effect.variance, a, b, effect))
        rows.sort(key=lambda row: (-row[0], row[1], row[2]))
        return [(a, b, effect) for _, a, b, effect in rows[:most]]


def _share(effects: Effects, position: int) -> float:
    """Of the whole variance; a process that errs may put it above 1 by a little."""
    part = effects.branches.share(position) * effects.of(position, 12, ends=False).variance
    return float(min(part / max(effects.variance, 1e-300), 1.0))


def _jackknife(parts: NDArray[np.float64]) -> float:
    """The deviation of an estimate from those without one part of the data each (Efron & Stein 1981)."""
    return float(np.sqrt((len(parts) - 1) / len(parts) * ((parts - parts.mean()) ** 2).sum()))
