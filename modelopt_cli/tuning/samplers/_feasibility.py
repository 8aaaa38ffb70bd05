"""How probable it is that a setting meets the constraints and does not fail.

A process for each constraint, of its margin: how far the metric lies on the good side of its bound. Margins are made
alike by sign(m) log(1 + |m| / s), which keeps the bound and draws far ones in (Eriksson and Poloczek, AISTATS 2021,
"Scalable constrained Bayesian optimization", section 3). Failures have no margin: whether a trial failed is a margin of
its own, 1 or -1 (least-squares classification; Rasmussen and Williams 2006, section 6.5).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from modelopt_cli.tuning.samplers._process import Process, fitted, subset
from modelopt_cli.tuning.samplers._settings import Settings
from modelopt_cli.tuning.trials.divergence import drawn_back

Array = NDArray[np.float64]

_FITTED = 70  # trials that hyperparameters are fitted to
_CAUTION = 2.0  # its square as a factor wastes fewer trials than the probability itself, and finds as much
_SURE, _NEVER = 0.84, -1e4  # 0.84 deviations: 80%


class Feasibility:
    """Processes of the margins that were ever negative; one that never was tells nothing apart."""

    def __init__(self, settings: Settings, codes: Array, margins: Array, rng: np.random.Generator) -> None:
        """Snapped `codes` (N, dim) and their margins (N, C), positive: good; NaN: not known.

        The last column is of failures.
        """
        self._settings = settings
        self._models: list[tuple[Process, float, bool]] = []  # where the bound lies; whether it is of failures
        for place, column in enumerate(margins.T, 1):
            known = ~np.isnan(column)
            if (column[known] < 0).any():
                model = _modelled(settings, codes[known], column[known], rng)
                self._models.append((*model, place == margins.shape[1]))

    def log_merit(self, codes: Array) -> Array:
        """_CAUTION times the logarithm (M,) of the probability that every margin is positive, each by itself.

        Where it is not 80% sure that a setting does not fail, _NEVER is added: once little improvement is left, its
        logarithm would outweigh any probability (a chance constraint: Gelbart et al., UAI 2014, section 3).
        """
        total = np.zeros(len(codes))
        inputs = self._settings.inputs(codes)
        for process, bound, failures in self._models:
            mean, deviation = process.predict(inputs)
            total += _CAUTION * log_ndtr((mean - bound) / deviation)
            if failures:
                total += np.where(mean - _SURE * deviation < bound, _NEVER, 0.0)
        return total


def _modelled(settings: Settings, codes: Array, margins: Array, rng: np.random.Generator) -> tuple[Process, float]:
    size = drawn_back(np.abs(margins), certain=True)
    targets = np.sign(margins) * np.log1p(size / (float(np.median(size)) or float(size.max())))
    mean, deviation = float(targets.mean()), float(targets.std()) or 1.0
    targets = (targets - mean) / deviation
    some = subset(np.abs(targets + mean / deviation), _FITTED, rng)  # most of them next to the bound
    hyper = fitted(settings.inputs(codes[some]), targets[some], 1)
    return Process(settings.inputs(codes), targets, hyper), -mean / deviation
