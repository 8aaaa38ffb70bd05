"""From the history of a search to numbers that a surrogate can be fitted to (lower is better)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelopt_cli.tuning.trial import Params, Trial


@dataclass(frozen=True, eq=False)
class History:
    """Finished trials with one target each, and the settings that are under way."""

    params: list[Params]  # N finished
    y: np.ndarray  # (N,) finite; lower is better
    pending: list[Params]
    objectives: int

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

    Failures get the worst target of all, so that a surrogate learns to stay away from them.
    """
    finished = [trial for trial in trials if trial.state.finished]
    losses = [losses_of(trial) for trial in finished]
    known = np.array([found is not None for found in losses], dtype=bool)
    y = np.zeros(len(finished))
    objectives = max((len(found) for found in losses if found is not None), default=1)
    if known.any():
        table = np.array([found for found in losses if found is not None], dtype=float)  # (known, objectives)
        table /= np.abs(table).max(axis=0) + 1e-300  # in [-1, 1], so that no sum overflows
        violation = np.array([trial.violation for trial, ok in zip(finished, known, strict=True) if ok])
        y[known] = _penalised(_scalar(table, violation <= 0, rng), violation)
        y[~known] = y[known].max()
    pending = [trial.params for trial in trials if not trial.state.finished]
    return History([trial.params for trial in finished], y, pending, objectives)


def softened(losses: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Losses (N,), the bad ones drawn in: how bad a setting is teaches little about good ones, but the order does.

    Above median + s, s = median - min of `basis` (the feasible ones), an excess e becomes s / 2 log(1 + e / s).
    """
    low, median = float(basis.min()), float(np.median(basis))
    spread = median - low
    if spread <= 0:
        return losses
    excess = np.maximum(losses - (median + spread), 0.0)
    return np.asarray(np.minimum(losses, median + spread) + 0.5 * spread * np.log1p(excess / spread))


def _scalar(table: np.ndarray, feasible: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, objectives) -> (N,): several objectives by an augmented Chebyshev norm with random weights.

    Knowles 2006, "ParEGO", section III: rho = 0.05; weights uniform on the simplex, anew for each suggestion.
    """
    basis = table[feasible] if feasible.any() else table
    soft = np.stack([softened(column, own) for column, own in zip(table.T, basis.T, strict=True)])
    if len(soft) == 1:
        return np.asarray(soft[0])
    low, high = soft.min(axis=1, keepdims=True), soft.max(axis=1, keepdims=True)
    scaled = (soft - low) / np.where(high > low, high - low, 1.0)
    weighted = rng.dirichlet(np.ones(len(soft)))[:, None] * scaled
    return np.asarray(weighted.max(axis=0) + 0.05 * weighted.sum(axis=0))


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
