"""From the history of a search to numbers that a surrogate can be fitted to (lower is better)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelopt_cli.tuning.trials.divergence import diverged_rows
from modelopt_cli.tuning.trials.trial import Params, Trial

_MOST_OBJECTIVES = 3  # of more than these one is made: their hypervolume's boxes are too many
_FAR = 3.0  # how far above the median, in spreads, the loss of one of several objectives is drawn in


@dataclass(frozen=True, eq=False)
class History:
    """Finished trials with one target each, and the settings that are under way."""

    params: list[Params]  # N finished
    y: np.ndarray  # (N,) finite; lower is better
    pending: list[Params]
    objectives: int
    losses: np.ndarray  # (N, M) finite, bad ones drawn in, infeasible and failed ones behind all others
    modelled: np.ndarray  # (N, K) the same as they are, NaN where failed; of more than a few objectives one is made
    feasible: np.ndarray  # (N,) bool
    margins: np.ndarray  # (N, C) of each constraint, positive: met; then of not failing; NaN where not known

    def only(self, kept: np.ndarray) -> History:
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


def losses_of(trial: Trial) -> tuple[float, ...] | None:
    """A finished trial's losses (a stopped one's: of its last report), None when it failed or one is not finite."""
    losses = trial.losses
    if losses is None and trial.curve:
        losses = trial.curve[-1].losses
    if trial.state == "failed" or not losses or not np.all(np.isfinite(losses)):
        return None
    return losses


def read(trials: Sequence[Trial], rng: np.random.Generator) -> History:
    """The history as numbers: objectives made one, bad losses drawn in, then infeasible ones, then failures last.

    In `y` failures get the worst target of all, so that a surrogate learns to stay away from them. A trial that
    diverged has failed, whether its loss is NaN or finite (tuning/trials/divergence.py).
    """
    finished = [trial for trial in trials if trial.state.finished]
    told = [losses_of(trial) for trial in finished]
    known = np.array([found is not None for found in told], dtype=bool)
    if known.any():
        known[known] = ~diverged_rows(np.array([found for found in told if found is not None], dtype=float))
    violation = np.array([trial.violation for trial in finished])
    objectives = max((len(found) for found in told if found is not None), default=1)
    several = 1 < objectives <= _MOST_OBJECTIVES
    y, losses = np.zeros(len(finished)), np.zeros((len(finished), objectives))
    modelled = np.full((len(finished), objectives if several else 1), np.nan)
    if known.any():
        table = np.array([found for found, usable in zip(told, known, strict=True) if usable], dtype=float)
        table /= np.abs(table).max(axis=0) + 1e-300  # in [-1, 1], so that no sum overflows
        feasible = violation[known] <= 0
        scalar = _scalar(_softened_columns(table, feasible), rng)
        mild = _softened_columns(table, feasible, _FAR)  # what is bad in one objective may be best in another
        y[known] = _penalised(scalar, violation[known])
        y[~known] = y[known].max()
        losses[known] = np.stack([_penalised(column, violation[known]) for column in mild.T], axis=1)
        losses[~known] = losses[known].max(axis=0)
        modelled[known] = mild if several else scalar[:, None]
    pending = [trial.params for trial in trials if not trial.state.finished]
    params = [trial.params for trial in finished]
    margins = _margins(finished, known, violation)
    return History(params, y, pending, objectives, losses, modelled, known & (violation <= 0), margins)


def _margins(finished: Sequence[Trial], known: np.ndarray, violation: np.ndarray) -> np.ndarray:
    """(N, C + 1). A trial that violates what it has no margin of (an older study's) counts as failed, too."""
    count = max((len(trial.margins) for trial in finished), default=0)
    margins = np.full((len(finished), count + 1), np.nan)
    for row, trial in enumerate(finished):
        if known[row]:
            margins[row, : len(trial.margins)] = [np.nan if each is None else each for each in trial.margins]
    margins[~np.isfinite(margins)] = np.nan
    unexplained = (violation > 0) & ~(margins[:, :count] <= 0).any(axis=1)
    margins[:, count] = np.where(known & ~unexplained, 1.0, -1.0)
    return margins


def softened(losses: np.ndarray, basis: np.ndarray, reach: float = 1.0) -> np.ndarray:
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


def _softened_columns(table: np.ndarray, feasible: np.ndarray, reach: float = 1.0) -> np.ndarray:
    """(N, objectives), each objective drawn in by its feasible losses, where there are any."""
    basis = table[feasible] if feasible.any() else table
    return np.stack([softened(column, own, reach) for column, own in zip(table.T, basis.T, strict=True)], axis=1)


def standard(column: np.ndarray) -> np.ndarray:
    """(N,) with mean 0 and variance 1."""
    return np.asarray((column - column.mean()) / (column.std() or 1.0))


def _scalar(soft: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, objectives) -> (N,): several objectives by an augmented Chebyshev norm with random weights.

    Knowles 2006, "ParEGO", section III: rho = 0.05; weights uniform on the simplex, anew for each suggestion.
    """
    if soft.shape[1] == 1:
        return np.asarray(soft[:, 0])
    low, high = soft.min(axis=0), soft.max(axis=0)
    scaled = (soft - low) / np.where(high > low, high - low, 1.0)
    weighted = rng.dirichlet(np.ones(soft.shape[1])) * scaled
    return np.asarray(weighted.max(axis=1) + 0.05 * weighted.sum(axis=1))


def _penalised(y: np.ndarray, violation: np.ndarray) -> np.ndarray:
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
