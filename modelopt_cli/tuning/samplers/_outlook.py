"""The outlook on settings nobody has tried: a process for each objective, one for each way to be of no use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._feasibility import Feasibility
from modelopt_cli.tuning.samplers._fronts import boxes, log_expected_hypervolume
from modelopt_cli.tuning.samplers._history import History, standard
from modelopt_cli.tuning.samplers._improvement import log_expected_improvement
from modelopt_cli.tuning.samplers._process import Process, fitted, subset
from modelopt_cli.tuning.samplers._settings import Settings
from modelopt_cli.tuning.trials.ranking import non_dominated
from modelopt_cli.tuning.trials.trial import Params

Array = NDArray[np.float64]

_FITTED, _HELD = 100, 400  # trials that hyperparameters are fitted to, and that a process is conditioned on
_FITTED_OF_SEVERAL = 70  # processes cost, so with several objectives each is fitted to fewer trials, and from one start
_BEYOND = 0.1  # of the range of all trials: so far behind their worst the hypervolume begins
_LEADERS = 5


class Outlook:
    """Processes conditioned on finished trials and, as if they had come out as predicted, on those under way."""

    def __init__(self, settings: Settings, history: History, also: Sequence[Params], rng: np.random.Generator) -> None:
        self._settings, self._trials = settings, len(history.y)
        space = settings.space
        kept = subset(history.y, _HELD, rng)
        self.codes = np.stack([space.encode(history.params[index]) for index in kept])  # of every trial (N, dim)
        known = ~np.isnan(history.modelled[kept]).any(1)
        self._known = self.codes[known]  # of those with losses
        self._targets = [standard(column) for column in history.modelled[kept][known].T.copy()]  # of each objective
        self._processes = [self._fitted(column, rng) for column in self._targets]
        self._feasibility = Feasibility(settings, self.codes, history.margins[kept], rng)
        place = standard(history.y[kept])
        self._aim(history.feasible[kept][known])
        under_way = [*history.pending, *also]
        if under_way:
            place = np.append(place, self._pretend(np.stack([space.encode(params) for params in under_way])))
        leaders = np.argsort(place, kind="stable")[:_LEADERS]
        self.leaders = self.codes[leaders]
        if self._front is not None:
            self.leaders = self._front[rng.permutation(len(self._front))[: 2 * _LEADERS]]

    def _fitted(self, targets: Array, rng: np.random.Generator) -> Process:
        inputs, one = self._settings.inputs, len(self._targets) == 1
        some = subset(targets, _FITTED if one else _FITTED_OF_SEVERAL, rng)
        hyper = fitted(inputs(self._known[some]), targets[some], 2 if one else 1)
        return Process(inputs(self._known), targets, hyper)

    def _aim(self, feasible: NDArray[np.bool_]) -> None:
        """What is to be improved on. Of noisy losses not the luckiest ones, but those that are believed best."""
        self._best: float | None = None
        self._front: Array | None = None  # codes
        if not feasible.any():
            return
        believed = self.predict(self._known)[0]
        best = believed[feasible]
        self._best = float(best[:, 0].min())
        if believed.shape[1] > 1:
            front = non_dominated([tuple(row) for row in best.tolist()])
            self._front = self._known[feasible][front]
            self._boxes = boxes(best[front], best.max(0) + _BEYOND * np.ptp(best, axis=0) + 1e-9)

    def predict(self, codes: Array) -> tuple[Array, Array]:
        """Means and standard deviations (C, objectives) of snapped codes (C, dim)."""
        inputs = self._settings.inputs(codes)
        means, deviations = zip(*(process.predict(inputs) for process in self._processes), strict=True)
        return np.stack(means, axis=1), np.stack(deviations, axis=1)

    def _pretend(self, codes: Array) -> Array:
        """Settings under way count with their predicted losses ("Kriging believer", Ginsbourger et al. 2010).

        All at once: what is believed of one does not move the mean, so that one by one gives the same.
        """
        means = self.predict(codes)[0]
        self._targets = [np.append(column, mean) for column, mean in zip(self._targets, means.T, strict=True)]
        self.codes, self._known = np.concatenate([self.codes, codes]), np.concatenate([self._known, codes])
        inputs = self._settings.inputs(self._known)
        self._processes = [
            process.with_points(inputs, column)
            for process, column in zip(self._processes, self._targets, strict=True)
        ]  # fmt: skip
        return means[:, 0]

    def merit(self, codes: Array) -> Array:
        """Logarithm (C,) of the expected improvement (of the hypervolume) times the square of the probability of use.

        The user's prior beliefs add what the number of trials leaves of them (_belief.py).

        Gardner et al., ICML 2014, "Bayesian optimization with inequality constraints", eq. 4, where the probability is
        not squared. It stands alone while no trial is feasible.
        """
        use = self._settings.beliefs.weighed(self._feasibility.log_merit(codes), codes, self._trials)
        if self._best is None:
            return use
        mean, deviation = self.predict(codes)
        if mean.shape[1] == 1:
            return log_expected_improvement(mean[:, 0], deviation[:, 0], self._best) + use
        return log_expected_hypervolume(mean, deviation, *self._boxes) + use
