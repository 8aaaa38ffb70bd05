"""Learning curves of all trials, by a Gaussian process over settings and the logarithm of the step.

For the scheduler `freeze_thaw`, which asks it where a curve will end, and how much more steps would tell about that.
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._common.encoding import Encoding, Points, encoded
from modelopt_cli.tuning.samplers._common.history import standard, winsorized
from modelopt_cli.tuning.samplers._gp.process import Process, QueryPoints, fitted
from modelopt_cli.tuning.trials.divergence import drawn_back
from modelopt_cli.tuning.trials.trial import Point, State

if TYPE_CHECKING:
    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Trial

Array = NDArray[np.float64]
Index = NDArray[np.int64]

_FITTED, _HELD = 80, 300  # points that hyperparameters are fitted to, and that the process is conditioned on
_FIRST, _MORE = 8, 1.25  # points at the first fit, and their growth until the next
_fits: dict[bytes, Array] = {}  # what was fitted -> hyperparameters; only saves time
_MOST_FITS = 100


class Curves:
    """Losses at `stages` (the last is the end of a trial), first objective.

    Failed trials end with the worst of all; what diverged counts as no worse than that.

    Raises ValueError where there is not one (see `any_reported`).
    """

    def __init__(self, space: Space, trials: Sequence[Trial], stages: Sequence[int]) -> None:
        self.encoding, self._total = Encoding(space), stages[-1]
        rows: list[tuple[int, int, float, int]] = []  # index of the trial, step, loss, order of arrival
        known: list[Trial] = []
        for trial in trials:
            reports = _at_stages(trial, stages)
            failed = trial.state is State.FAILED
            if reports or failed:
                rows += [(len(known), at.step, at.losses[0], at.order) for at in reports if at.losses is not None]
                rows += [(len(known), self._total, math.inf, trial.curve[-1].order if reports else 0)] if failed else []
                known.append(trial)
        self._codes = encoded(space, [trial.params for trial in known])
        owners, steps, losses, order = (np.array(column) for column in zip(*rows, strict=True))  # (N,) a report each
        finite = np.isfinite(losses)
        losses[finite] = drawn_back(losses[finite], certain=True)
        losses = np.where(finite, losses, losses[finite].max() if finite.any() else 0.0)
        self._owners, self._steps, self._losses = owners, steps, losses
        hyper = self._hyper(np.sort(np.argsort(order, kind="stable")[: _milestone(len(order))]))
        # The process tells settings apart; how the typical curve goes on is taken out, so that it need not guess it.
        losses = losses - _decline_to_come(losses, owners, steps)
        held = _thinned(losses, owners, steps, _HELD)
        self._targets = _standardised(losses)
        self._points = self.points(self._codes[owners[held]], steps[held])
        self._process = Process(self._points, self._targets[held], hyper)
        self._held_targets = self._targets[held]

    def _hyper(self, early: Index) -> Array:
        """Fitted to the points that there were at the last milestone, so that most decisions need no fit."""
        owners, steps, losses = self._owners[early], self._steps[early], self._losses[early]
        kept = _thinned(losses, owners, steps, _FITTED)
        targets = _standardised(losses)[kept]
        points = self.points(self._codes[owners[kept]], steps[kept])
        key = points.numbers.tobytes() + points.categories.tobytes() + targets.tobytes()
        if key not in _fits:
            if len(_fits) >= _MOST_FITS:
                _fits.clear()
            _fits[key] = fitted(points, targets, starts=1)
        return _fits[key]

    def points(self, codes: Array, steps: Index) -> Points:
        """Settings (N, dim) at steps (N,): the step is one more number, log(step) / log(total)."""
        settings = self.encoding.points(codes)
        time = np.log(np.maximum(steps, 1)) / math.log(max(self._total, 2))
        return Points(np.concatenate([settings.numbers, time[:, None]], axis=1), settings.categories)

    @property
    def best(self) -> float:
        """The lowest target: what the best point promises, were its curve to go on as the typical one."""
        return float(self._targets.min())

    def leaders(self, count: int) -> Array:
        """Codes of the trials that promise most, (count, dim) at most."""
        order = self._owners[np.argsort(self._targets, kind="stable")]
        return self._codes[list(dict.fromkeys(order.tolist()))[:count]]

    def at_end(self, codes: Array) -> QueryPoints:
        """Settings (N, dim) at the end of their curves."""
        return self._process.at(self.points(codes, np.full(len(codes), self._total)))

    def posterior(self, queries: QueryPoints) -> tuple[Array, Array]:
        """Mean and deviation (N,) of the target there."""
        return self._process.posterior(queries)

    def moved(self, ends: QueryPoints, codes: Array, steps: Index) -> Array:
        """(N,) deviation of what the predicted `ends` of settings (N, dim) would be, were each known up to `steps`."""
        covariance, variance = self._process.paired_covariance(ends, self._process.at(self.points(codes, steps)))
        return np.asarray(np.abs(covariance) / np.sqrt(variance + self._process.noise))

    def fantasize(self, code: Array, step: int) -> None:
        """What is under way counts with its predicted loss (Ginsbourger et al., 2010, "Kriging believer")."""
        point = self.points(code[None], np.array([step]))
        self._held_targets = np.append(self._held_targets, self._process.predict(point)[0])
        numbers = np.concatenate([self._points.numbers, point.numbers])
        self._points = Points(numbers, np.concatenate([self._points.categories, point.categories]))
        self._process = self._process.with_points(self._points, self._held_targets)


def any_reported(trials: Sequence[Trial]) -> bool:
    """Whether something is known of some trial's curve: a report with losses, its end, or that it failed."""
    return any(
        trial.state is State.FAILED
        or trial.losses is not None
        or any(point.losses is not None for point in trial.curve)
        for trial in trials
    )


def _at_stages(trial: Trial, stages: Sequence[int]) -> list[Point]:
    """For each stage the first report there, or before the next stage: a script may report every tenth step only.

    Of one that has reported no loss on the way, what it came to in the end.
    """
    reports: dict[int, Point] = {}
    for point in trial.curve:
        if point.losses is not None and point.step >= stages[0]:
            stage = stages[bisect_right(stages, point.step) - 1]
            reports.setdefault(stage, dataclasses.replace(point, step=stage))
    if not reports and trial.losses is not None:
        order = trial.curve[-1].order if trial.curve else 0
        reports[stages[-1]] = Point(stages[-1], trial.metrics, trial.losses, order)
    return list(reports.values())


def _decline_to_come(losses: Array, owners: Index, steps: Index) -> Array:
    """(N,) how much lower the typical loss still was at the last step, from each point's step on; usually above 0.

    From step to step the median change of the trials that have both.
    """
    at: dict[int, dict[int, float]] = {}
    for trial, step, loss in zip(owners.tolist(), steps.tolist(), losses.tolist(), strict=True):
        at.setdefault(step, {})[trial] = loss
    level, levels = 0.0, {}
    before: dict[int, float] = {}
    for step in sorted(at):
        changes = [loss - before[trial] for trial, loss in at[step].items() if trial in before]
        level += float(np.median(changes)) if changes else 0.0
        levels[step], before = level, at[step]
    return np.array([levels[step] - level for step in steps.tolist()])


def _milestone(count: int) -> int:
    """The last of 8, 11, 15, ... that is not above `count`; `count` itself where there are fewer."""
    last = _FIRST
    while (after := round(last * _MORE) + 1) <= count:
        last = after
    return min(last, count)


def _standardised(losses: Array) -> Array:
    """Mean 0 and variance 1, bad ones winsorized."""
    return standard(winsorized(losses, losses))


def _thinned(losses: Array, owners: Index, steps: Index, most: int) -> Index:
    """All points, or `most`: first the last ones of the best trials, the others spread evenly over the rest."""
    if len(losses) <= most:
        return np.arange(len(losses))
    last = np.zeros(owners.max() + 1, dtype=np.int64)
    np.maximum.at(last, owners, steps)
    order = np.lexsort((losses, last[owners] != steps))
    rest = order[most // 2 :]
    spread = rest[np.linspace(0, len(rest) - 1, most - most // 2).astype(np.int64)]
    return np.sort(np.concatenate([order[: most // 2], spread]))
