"""The history of a search as numbers that a model can be fitted to: targets of which lower is better.

What makes a model err is taken care of here. Bad losses are winsorized, several objectives are made one, settings that
break a constraint come after all others, failures last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.trials.divergence import diverged_rows
from modelopt_cli.tuning.trials.ranking import Losses, crowding, fronts
from modelopt_cli.tuning.trials.trial import Params, Trial

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

MOST_OBJECTIVES = 3
"""Of more than these one is made: their hypervolume's boxes are too many."""

_WALLS = ("memory", "timeout", "crash")  # kinds of failures that sizes lead to
_FAR = 3.0  # how far above the median, in spreads, the loss of one of several objectives is winsorized


@dataclass(frozen=True, eq=False)
class History:
    """Finished trials with one target each, and the settings that are under way."""

    params: list[Params]  # N finished
    y: Array  # (N,) finite; lower is better
    pending: list[Params]
    objectives: int
    losses: Array  # (N, M) finite, winsorized; infeasible and failed ones behind all others
    modelled: Array  # (N, K) winsorized only, NaN where failed; of more than a few objectives one is made
    feasible: Mask  # (N,)
    margins: Array  # (N, C) of each constraint, positive: met; of computing a loss; of no wall; NaN: not known

    def only(self, kept: Mask) -> History:
        """Without the finished trials that are not `kept` (N,)."""
        return dataclasses.replace(
            self,
            params=[params for params, stays in zip(self.params, kept, strict=True) if stays],
            y=self.y[kept],
            losses=self.losses[kept],
            modelled=self.modelled[kept],
            feasible=self.feasible[kept],
            margins=self.margins[kept],
        )

    @property
    def informative(self) -> bool:
        """Whether there is a difference to learn from."""
        return len(self.params) >= 2 and bool(np.ptp(self.y) > 0)


def losses_of(trial: Trial) -> Losses | None:
    """A finished trial's losses (a stopped one's: of its last report), None when it failed or one is not finite."""
    losses = trial.losses
    if losses is None and trial.curve:
        losses = trial.curve[-1].losses
    if trial.state == "failed" or not losses or not np.all(np.isfinite(losses)):
        return None
    return losses


def fitness(ended: Sequence[tuple[Trial, Losses]]) -> list[tuple[float, int, float]]:
    """A key for each trial, smaller is fitter: violation, front, and the more alone in it the better.

    Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II", section III.
    """
    points = [losses for _, losses in ended]
    keys: list[tuple[float, int, float]] = [(0.0, 0, 0.0)] * len(points)
    for rank, front in enumerate(fronts(points)):
        for index, alone in zip(front, crowding([points[i] for i in front]), strict=True):
            keys[index] = (ended[index][0].violation, rank, -alone)
    return keys


def read(trials: Sequence[Trial], rng: np.random.Generator) -> History:
    """The history as numbers: objectives made one, bad losses winsorized, then infeasible ones, then failures last.

    In `y` failures get the worst target of all, so that a model learns to stay away from them. A trial that diverged
    has failed, whether its loss is NaN or finite (trials/divergence.py).
    """
    finished = [trial for trial in trials if trial.state.finished]
    losses_by_trial = [losses_of(trial) for trial in finished]
    usable = np.array([losses is not None for losses in losses_by_trial], dtype=bool)
    if usable.any():
        ended = np.array([losses for losses in losses_by_trial if losses is not None], dtype=float)
        usable[usable] = ~diverged_rows(ended)
    violation = np.array([trial.violation for trial in finished])
    objectives = max((len(losses) for losses in losses_by_trial if losses is not None), default=1)
    several = 1 < objectives <= MOST_OBJECTIVES
    y, losses = np.zeros(len(finished)), np.zeros((len(finished), objectives))
    modelled = np.full((len(finished), objectives if several else 1), np.nan)
    if usable.any():
        table = np.array([row for row, used in zip(losses_by_trial, usable, strict=True) if used], dtype=float)
        table /= np.abs(table).max(axis=0) + 1e-300  # in [-1, 1], so that no sum overflows
        feasible = violation[usable] <= 0
        scalar = _scalar(_winsorized_columns(table, feasible), rng)
        mild = _winsorized_columns(table, feasible, _FAR)  # what is bad in one objective may be best in another
        y[usable] = _penalised(scalar, violation[usable])
        y[~usable] = y[usable].max()
        losses[usable] = np.stack([_penalised(column, violation[usable]) for column in mild.T], axis=1)
        losses[~usable] = losses[usable].max(axis=0)
        modelled[usable] = mild if several else scalar[:, None]
    pending = [trial.params for trial in trials if not trial.state.finished]
    params = [trial.params for trial in finished]
    margins = _margins(finished, usable, violation)
    return History(params, y, pending, objectives, losses, modelled, usable & (violation <= 0), margins)


def _margins(finished: Sequence[Trial], usable: Mask, violation: Array) -> Array:
    """(N, C + 1). A trial that violates what it has no margin of (an older study's) counts as failed, too.

    (N, C + 2) where some trials failed by what they computed (NaN, an error, a divergence): the last column but one is
    whether they did. The last is of those that ran into a wall: memory, a timeout, a crash.
    """
    count = max((len(trial.margins) for trial in finished), default=0)
    margins = np.full((len(finished), count + 1), np.nan)
    for row, trial in enumerate(finished):
        if usable[row]:
            margins[row, : len(trial.margins)] = [np.nan if margin is None else margin for margin in trial.margins]
    margins[~np.isfinite(margins)] = np.nan
    unexplained = (violation > 0) & ~(margins[:, :count] <= 0).any(axis=1)
    walled = np.array([trial.failure in _WALLS for trial in finished], dtype=bool)
    computed = ~usable & ~walled
    margins[:, count] = np.where(walled | unexplained, -1.0, 1.0)
    if computed.any():
        margins = np.insert(margins, count, np.where(usable, 1.0, np.where(computed, -1.0, np.nan)), axis=1)
    return margins


def winsorized(losses: Array, basis: Array, reach: float = 1.0) -> Array:
    """Losses (N,), the bad ones drawn in: how bad a setting is teaches little about good ones, but the order does.

    Above median + reach s, s = median - min of `basis` (the feasible ones), an excess e becomes s / 2 log(1 + e / s).
    """
    low, median = float(basis.min()), float(np.median(basis))
    spread = median - low
    if spread <= 0:
        return losses
    knee = median + reach * spread
    excess = np.maximum(losses - knee, 0.0)
    return np.asarray(np.minimum(losses, knee) + 0.5 * spread * np.log1p(excess / spread))


def _winsorized_columns(table: Array, feasible: Mask, reach: float = 1.0) -> Array:
    """(N, objectives), each objective winsorized by its feasible losses, where there are any."""
    basis = table[feasible] if feasible.any() else table
    return np.stack([winsorized(column, own, reach) for column, own in zip(table.T, basis.T, strict=True)], axis=1)


def standard(column: Array) -> Array:
    """(N,) with mean 0 and variance 1."""
    return np.asarray((column - column.mean()) / (column.std() or 1.0))


def _scalar(losses: Array, rng: np.random.Generator) -> Array:
    """(N, objectives) -> (N,): several objectives by an augmented Chebyshev norm with random weights.

    Knowles 2006, "ParEGO", section III: rho = 0.05; weights uniform on the simplex, anew for each suggestion.
    """
    if losses.shape[1] == 1:
        return np.asarray(losses[:, 0])
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled = (losses - low) / np.where(high > low, high - low, 1.0)
    weighted = rng.dirichlet(np.ones(losses.shape[1])) * scaled
    return np.asarray(weighted.max(axis=1) + 0.05 * weighted.sum(axis=1))


def _penalised(y: Array, violation: Array) -> Array:
    """Infeasible settings come after every feasible one, by the rank of their violation; loss decides nothing there."""
    bad = violation > 0
    if not bad.any():
        return y
    rank = np.searchsorted(np.unique(violation[bad]), violation) + 1.0
    share = rank / rank[bad].max()
    if bad.all():
        return np.asarray(share)
    worst, spread = y[~bad].max(), np.ptp(y[~bad])
    return np.where(bad, worst + (spread or abs(worst) or 1.0) * 0.5 * share, y)


def subset(losses: Array, most: int, rng: np.random.Generator | None = None) -> Index:
    """Indices of trials to fit a model to: all (N,), or the better half of `most` and as many of the others.

    These are drawn by `rng`; without one they are spread evenly from the better to the worse.
    """
    if len(losses) <= most:
        return np.arange(len(losses))
    order = np.argsort(losses, kind="stable")
    return joined(order[: most // 2], order[most // 2 :], most, rng)


def joined(first: Index, rest: Index, most: int, rng: np.random.Generator | None = None) -> Index:
    """`first` and as many of `rest` as make `most`, ascending: drawn by `rng`, or without one spread evenly."""
    count = most - len(first)
    if rng is not None:
        return np.sort(np.concatenate([first, rng.choice(rest, size=count, replace=False)]))
    return np.sort(np.concatenate([first, rest[np.linspace(0, len(rest) - 1, count).round().astype(np.int64)]]))
