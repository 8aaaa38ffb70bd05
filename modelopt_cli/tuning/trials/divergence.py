"""Trials that diverged and still ended with a finite loss: to a search they are what a NaN would have been.

A training that blows up ends with 1e4, 1e6 or 1e30, whichever epoch it was stopped in. Such a value says that the
setting is of no use and nothing else; taken as a measurement it is the only thing that a model of the losses sees. What
tells it from a loss that is merely bad is a gap: losses of one function fill their range, on a logarithmic axis too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.trials.ranking import non_dominated

Array = NDArray[np.float64]

_TIMES = 8.0  # as far above the best as the worst of the others, at least; measured: less takes bad ones for failures
_CERTAIN = 30.0  # the same, where a loss that is merely bad should be kept
_OTHERS = 0.4  # share of the trials that must lie below the gap: what most settings end with is no divergence
_FEWEST = 4  # trials below the gap
_BOUNDED = 1.0
_WIDER = 3.0  # than any gap next to it below; losses that span decades have some wide ones


def diverged(losses: Array, *, certain: bool = False) -> NDArray[np.bool_]:
    """(N,) of finite losses (N,): those beyond the first gap that no losses of one function would leave.

    On the axis log(loss - lowest) the gap is at least log(8) wide, and wider than the losses of the upper half below
    it lead to expect: than all of them together, or three times the widest gap between two of them. A search loses
    nothing by taking what lies so far out as failed, be it merely bad.

    `certain`: for what is said of losses, not for a search. The gap is log(30) wide at least; where no loss lies beyond
    [-1, 1] they may be error rates or the like, among which 0.9 is a bad one and no divergence.
    """
    if certain and not np.abs(losses).max(initial=0.0) > _BOUNDED:
        return np.zeros(len(losses), dtype=bool)
    order = np.argsort(losses, kind="stable")
    above = losses[order] / 2 - losses[order[0]] / 2  # halves, so that no difference overflows
    logs = np.log(np.maximum(above, 1e-320))
    beyond = np.zeros(len(losses), dtype=bool)
    gaps = np.diff(logs)  # before each but the first
    wide = np.flatnonzero((above[:-1] > 0) & (gaps >= np.log(_CERTAIN if certain else _TIMES))) + 1
    for first in wide[wide >= max(_FEWEST, int(np.ceil(_OTHERS * len(losses))))].tolist():
        gap = gaps[first - 1]
        upper = logs[first // 2 : first][above[first // 2 : first] > 0]
        if gap > min(_WIDER * np.diff(upper).max(initial=0.0), upper[-1] - upper[0]):
            beyond[order[first:]] = True
            break
    return beyond


def diverged_rows(losses: Array) -> NDArray[np.bool_]:
    """(N,) of losses (N, objectives): trials that diverged in some objective, and are no compromise because of others.

    One that no other trial beats in every objective is kept: a large model's size lies far above those of small ones,
    and is the price of the best accuracy.
    """
    beyond = np.asarray(np.logical_or.reduce([diverged(column) for column in losses.T]))
    if losses.shape[1] > 1 and beyond.any():
        beyond[non_dominated([tuple(row) for row in losses.tolist()])] = False
    return beyond


def drawn_back(losses: Array, *, certain: bool = False) -> Array:
    """Losses (N,), those of trials that diverged as bad as the worst of the others."""
    beyond = diverged(losses, certain=certain)
    return np.where(beyond, losses[~beyond].max(), losses) if beyond.any() else losses
