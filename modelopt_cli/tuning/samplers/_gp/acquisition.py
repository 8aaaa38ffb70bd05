"""What a setting promises, as Gaussian processes see it: expected improvement, of the hypervolume too, and feasibility.

All are logarithms, so that settings far behind the best are still told apart (Ament et al., NeurIPS 2023, "Unexpected
improvements to expected improvement").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, log_ndtr, logsumexp, ndtr

from modelopt_cli.tuning.samplers._common.encoding import Encoding, encoded
from modelopt_cli.tuning.samplers._common.history import History, standard, subset
from modelopt_cli.tuning.samplers._gp.classifier import Axes, Classifier
from modelopt_cli.tuning.samplers._gp.fantasies import Fantasies, drawn_outcomes
from modelopt_cli.tuning.samplers._gp.process import Process, fitted, fitted_alike, fitted_sharply
from modelopt_cli.tuning.trials.divergence import drawn_back
from modelopt_cli.tuning.trials.ranking import non_dominated
from modelopt_cli.tuning.trials.trial import Params

Array = NDArray[np.float64]
Interval = tuple[float, float]

_HALF_LOG_2PI = 0.5 * np.log(2.0 * np.pi)
BLOCK = 400_000  # boxes times candidates at a time

_FITTED, _HELD = 100, 400  # trials that hyperparameters are fitted to, and that a process is conditioned on
_FITTED_OF_SEVERAL = 70  # processes cost, so with several objectives each is fitted to fewer trials, and from one start
_BEHIND = 0.1  # of the range of all trials: so far behind their worst the hypervolume begins
_LEADERS = 5

_FITTED_MARGINS = 70  # trials that the hyperparameters of a process of margins are fitted to
CAUTION = 2.0  # its square as a factor wastes fewer trials than the probability itself, and finds as much
_SURE, _NEVER = 0.82, -1e4
_SURE_LABEL = 0.84  # deviations: 80%


def log_expected_improvement(mean: Array, deviation: Array, best: float | Array) -> Array:
    """log E[max(best - f, 0)] for f normal, (N,); lower values of f are better."""
    z = (best - mean) / deviation
    return log_h(z) + np.log(deviation)


def log_h(z: Array) -> Array:
    """log(phi(z) + z Phi(z)), for any z (Ament et al. 2023, eq. 8 to 11)."""
    z = np.asarray(z, dtype=np.float64)
    out = np.empty_like(z)
    usual = z > -1.0
    safe = z[usual]
    out[usual] = np.log(np.exp(-0.5 * safe * safe - _HALF_LOG_2PI) + safe * ndtr(safe))
    low = z[~usual]
    # phi + z Phi = phi (1 + z Phi / phi); Phi(z) / phi(z) = sqrt(pi / 2) erfcx(-z / sqrt 2)
    ratio = np.maximum(1.0 + low * np.sqrt(0.5 * np.pi) * erfcx(-low / np.sqrt(2.0)), 1e-300)
    far = low < -1e4  # there 1 + z Phi / phi is 1 / z² to all digits
    logs = np.where(far, -2.0 * np.log(np.maximum(-low, 1.0)), np.log(ratio))
    out[~usual] = -0.5 * low * low - _HALF_LOG_2PI + logs
    return out


# Expected hypervolume improvement: how much of the space that no trial dominates a setting promises to win. What is not
# dominated below a reference point is cut into disjoint boxes (l, u]. Of independent normal losses f the expected
# volume won is then, in closed form, the sum over boxes of the product over objectives of EI(u) - EI(l), with
# EI(t) = E[max(t - f, 0)] (Yang et al. 2019, "Efficient computation of expected hypervolume improvement using box
# decomposition algorithms"; Daulton et al., NeurIPS 2020).


def boxes(points: Array, reference: Array) -> tuple[Array, Array]:
    """Lower (partly -inf) and upper corners (K, M) of what no point (N, M) dominates up to `reference`."""
    inside = points[(points < reference).all(1)]
    front = inside[non_dominated([tuple(point) for point in inside.tolist()])]
    cut = np.array(_cut([tuple(point) for point in front.tolist()], tuple(reference.tolist())))  # (K, M, 2)
    return cut[..., 0], cut[..., 1]


def _cut(points: list[tuple[float, ...]], reference: tuple[float, ...]) -> list[tuple[Interval, ...]]:
    """Boxes as intervals, one an objective.

    A plane moves up along the last objective. Between two points the cut across it stays the same: that of the points
    passed, with one objective less. A box is a piece of it, from where it came up to where it goes.
    """
    *rest, top = reference
    if not rest:
        return [((-np.inf, min([top, *(point[0] for point in points)])),)]
    closed: list[tuple[Interval, ...]] = []
    passed: list[tuple[float, ...]] = []
    opened = dict.fromkeys(_cut([], tuple(rest)), -np.inf)  # piece of the cut -> where it came up
    for point in sorted(points, key=lambda losses: losses[-1]):
        passed = [*passed, point[:-1]]
        passed = [passed[i] for i in non_dominated(passed)]
        pieces = _cut(passed, tuple(rest))
        ending = opened.keys() - set(pieces)
        closed += [
            (*piece, (opened[piece], point[-1])) for piece in opened if piece in ending and opened[piece] < point[-1]
        ]
        opened = {piece: opened.get(piece, point[-1]) for piece in pieces}
    return closed + [(*piece, (low, top)) for piece, low in opened.items() if low < top]


def log_expected_hypervolume(mean: Array, deviation: Array, lower: Array, upper: Array) -> Array:
    """Logarithm (C,) of the volume of boxes (K, M) that normal losses (C, M) are expected to win."""
    step = max(BLOCK // max(len(lower), 1), 1)
    parts = [slice(at, at + step) for at in range(0, len(mean), step)]
    return np.concatenate([_log_volume(mean[part], deviation[part], lower, upper) for part in parts])


def _log_volume(mean: Array, deviation: Array, lower: Array, upper: Array) -> Array:
    total = np.zeros((len(lower), len(mean)))
    for m in range(mean.shape[1]):
        edges, index = np.unique(np.concatenate([lower[:, m], upper[:, m]]), return_inverse=True)
        z = (np.maximum(edges, -1e300)[:, None] - mean[None, :, m]) / deviation[None, :, m]
        logs = np.where(np.isinf(edges)[:, None], -np.inf, log_h(np.maximum(z, -1e100)) + np.log(deviation[:, m]))
        below, above = logs[index[: len(lower)]], logs[index[len(lower) :]]
        share = -np.expm1(np.minimum(below - above, 0.0))  # 1 - EI(l) / EI(u)
        total += above + np.log(np.maximum(share, 1e-300))
    return np.asarray(logsumexp(total, axis=0))


class Feasibility:
    """How probable it is that a setting meets the constraints and does not fail.

    A process for each constraint, of its margin: how far the metric lies on the good side of its bound. Margins are
    made alike by sign(m) log(1 + |m| / s), which keeps the bound and draws far ones in (Eriksson and Poloczek, AISTATS
    2021, "Scalable constrained Bayesian optimization", section 3). Margins that were never negative tell nothing apart,
    and have no process. Whether a trial computed a loss (no NaN, no divergence) is a margin of 1 or -1 (least-squares
    classification; Rasmussen and Williams 2006, section 6.5). Whether it ran into a wall (out of memory, out of time)
    has a classifier of its own (classifier.py).
    """

    def __init__(self, encoding: Encoding, codes: Array, margins: Array, rng: np.random.Generator) -> None:
        """Snapped `codes` (N, dim) and their margins (N, C), positive: good; NaN: not known.

        The last column is of walls: 1, or -1 for a trial that ran into one.
        """
        self._encoding = encoding
        self.models: list[tuple[Process, float, bool]] = []
        """Of each constraint that was broken: its process, where the bound lies on its scale, whether it is a label."""
        for column in margins.T[:-1]:
            known = ~np.isnan(column)
            if (column[known] < 0).any():
                labels = bool((np.abs(column[known]) == 1.0).all())
                self.models.append((*self._fitted(codes[known], column[known], rng), labels))
        self.failing = self._classifier(codes, margins[:, -1], rng) if (margins[:, -1] < 0).any() else None
        """None while no trial has run into a wall."""

    def _fitted(self, codes: Array, margins: Array, rng: np.random.Generator) -> tuple[Process, float]:
        """A process of the margins, and where their bound lies on its scale."""
        points = self._encoding.points
        size = drawn_back(np.abs(margins), certain=True)
        targets = np.sign(margins) * np.log1p(size / (float(np.median(size)) or float(size.max())))
        mean, deviation = float(targets.mean()), float(targets.std()) or 1.0
        targets = (targets - mean) / deviation
        some = subset(np.abs(targets + mean / deviation), _FITTED_MARGINS, rng)  # most of them next to the bound
        hyper = fitted(points(codes[some]), targets[some], 1)
        return Process(points(codes), targets, hyper), -mean / deviation

    def _classifier(self, codes: Array, labels: Array, rng: np.random.Generator) -> Classifier:
        points = self._encoding.points
        if len(codes) > _HELD:
            some = rng.choice(len(codes), size=_HELD, replace=False)
            codes, labels = codes[some], labels[some]
        process = self._fitted(codes, labels, rng)[0]  # its length scales are those of a least-squares classifier

        def curved(one: Array, other: Array) -> Array:
            return process.correlation(points(one), points(other))

        return Classifier(codes, labels, Axes(self._encoding), curved, rng)

    def log_merit(self, codes: Array, *, daring: bool = False) -> Array:
        """CAUTION times the logarithm (M,) of the probability that every margin is positive, each by itself.

        Where it is not _SURE enough that a setting does not fail, _NEVER is added: once little improvement is left, its
        logarithm would outweigh any probability (a chance constraint: Gelbart et al., UAI 2014, section 3). `daring`:
        half a chance of not failing is enough, for a search without a process that knows what lies at the wall.
        """
        total = np.zeros(len(codes))
        points = self._encoding.points(codes)
        for process, bound, labels in self.models:
            mean, deviation = process.predict(points)
            total += CAUTION * log_ndtr((mean - bound) / deviation)
            if labels:
                total += np.where(mean - _SURE_LABEL * deviation < bound, _NEVER, 0.0)
        if self.failing is not None:
            logs = self.failing.log_probability(codes)
            total += (1.0 if daring else CAUTION) * logs
            total += np.where(logs < np.log(0.5 if daring else _SURE), _NEVER, 0.0)
        return total


class AcquisitionContext:
    """All that the merit of a setting depends on: a process for each objective, and the probability of feasibility.

    The process of one objective is conditioned on finished trials, and on draws of what those under way come out as
    (fantasies.py); those of several objectives as if these had come out as predicted. Hyperparameters are fitted to
    finished trials alone.
    """

    def __init__(
        self,
        encoding: Encoding,
        history: History,
        suggested: Sequence[Params],
        rng: np.random.Generator,
        alike: bool = False,
    ) -> None:
        """`suggested`: settings under way beside those of the history.

        `alike`: the length scales of one objective's process are held near a common one.
        """
        self._encoding, self._trials, self._alike = encoding, len(history.y), alike
        space = encoding.space
        kept = subset(history.y, _HELD, rng)
        self.codes = encoded(space, [history.params[index] for index in kept])
        """(N, dim) of every trial, those under way included."""
        known = ~np.isnan(history.modelled[kept]).any(1)
        self.known = self.codes[known]
        """(K, dim) of those with losses."""
        self._targets = [standard(column) for column in history.modelled[kept][known].T.copy()]  # of each objective
        self._processes = [self._fitted(column, rng) for column in self._targets]
        self.feasibility = Feasibility(encoding, self.codes, history.margins[kept], rng)
        targets = standard(history.y[kept])
        feasible = history.feasible[kept][known]
        self._aim(feasible)
        under_way = [*history.pending, *suggested]
        self._fantasies: Fantasies | None = None
        if under_way:
            codes = np.stack([space.encode(params) for params in under_way])
            if len(self._processes) == 1 and self._best is not None:
                self._fantasies = self._drawn(codes, feasible, rng)
            targets = np.append(targets, self._fantasize(codes))
        self.leaders = self.codes[np.argsort(targets, kind="stable")[:_LEADERS]]
        """(K, dim): the best trials, of several objectives some of the front."""
        if self._front is not None:
            self.leaders = self._front[rng.permutation(len(self._front))[: 2 * _LEADERS]]

    def _fitted(self, targets: Array, rng: np.random.Generator) -> Process:
        points, one = self._encoding.points, len(self._targets) == 1
        some = subset(targets, _FITTED if one else _FITTED_OF_SEVERAL, rng)
        if one:
            fit = fitted_alike if self._alike else fitted_sharply
            return Process(points(self.known), targets, fit(points(self.known[some]), targets[some]))
        return Process(points(self.known), targets, fitted(points(self.known[some]), targets[some], 1))

    @property
    def exact(self) -> bool:
        """Whether the losses, of one objective, are taken to hold next to no noise."""
        return len(self._processes) == 1 and self._processes[0].exact

    def _aim(self, feasible: NDArray[np.bool_]) -> None:
        """What is to be improved on. Of noisy losses not the luckiest ones, but those whose posterior mean is best."""
        self._best: float | None = None
        self._front: Array | None = None  # codes
        if not feasible.any():
            return
        means = self.predict(self.known)[0][feasible]
        self._best = float(means[:, 0].min())
        if means.shape[1] > 1:
            front = non_dominated([tuple(row) for row in means.tolist()])
            self._front = self.known[feasible][front]
            self._boxes = boxes(means[front], means.max(0) + _BEHIND * np.ptp(means, axis=0) + 1e-9)

    def predict(self, codes: Array) -> tuple[Array, Array]:
        """Means and standard deviations (C, objectives) of snapped codes (C, dim)."""
        points = self._encoding.points(codes)
        means, deviations = zip(*(process.predict(points) for process in self._processes), strict=True)
        return np.stack(means, axis=1), np.stack(deviations, axis=1)

    def _drawn(self, codes: Array, feasible: NDArray[np.bool_], rng: np.random.Generator) -> Fantasies:
        """Fantasies of settings under way. Whether one of them is feasible is drawn, too; what may well fail is not."""
        [process], points = self._processes, self._encoding.points(np.concatenate([self.known, codes]))
        outcomes = drawn_outcomes(process, self._encoding.points(codes), rng)
        chance = np.exp(self.feasibility.log_merit(codes) / CAUTION)[:, None]
        finished = np.repeat(feasible[:, None], outcomes.shape[1], axis=1)
        counting = np.concatenate([finished, rng.random(outcomes.shape) < chance])
        return Fantasies(process, points, outcomes, counting)

    def _fantasize(self, codes: Array) -> Array:
        """Settings under way count with their predicted losses ("Kriging believer", Ginsbourger et al. 2010).

        All at once: a fantasy does not move the mean, so that one by one gives the same.
        """
        means = self.predict(codes)[0]
        self._targets = [np.append(column, mean) for column, mean in zip(self._targets, means.T, strict=True)]
        self.codes, self.known = np.concatenate([self.codes, codes]), np.concatenate([self.known, codes])
        points = self._encoding.points(self.known)
        self._processes = [
            process.with_points(points, column)
            for process, column in zip(self._processes, self._targets, strict=True)
        ]  # fmt: skip
        return means[:, 0]

    def merit(self, codes: Array) -> Array:
        """Logarithm (C,) of the expected improvement (of the hypervolume) times the square of P(feasible).

        The user's priors add what the number of trials leaves of them (_common/priors.py).

        Gardner et al., ICML 2014, "Bayesian optimization with inequality constraints", eq. 4, where the probability is
        not squared. It stands alone while no trial is feasible.
        """
        use = self._encoding.priors.weighted(self.feasibility.log_merit(codes), codes, self._trials)
        if self._best is None:
            return use
        if self._fantasies is not None:
            means, deviations = self._fantasies.process.predict(self._encoding.points(codes))  # (C, draws), (C,)
            logs = log_expected_improvement(means, deviations[:, None], self._fantasies.best)
            return np.asarray(logsumexp(logs, axis=1) - np.log(logs.shape[1]) + use)
        mean, deviation = self.predict(codes)
        if mean.shape[1] == 1:
            return log_expected_improvement(mean[:, 0], deviation[:, 0], self._best) + use
        return log_expected_hypervolume(mean, deviation, *self._boxes) + use
