"""What all trials have reported at the stages of their curves, in order of arrival, kept up to date report by report.

For the scheduler `freeze_thaw`, which looks at all of it in each decision.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._common.encoding import Encoding
from modelopt_cli.tuning.trials.indexed import Index
from modelopt_cli.tuning.trials.trial import State

if TYPE_CHECKING:
    from modelopt_cli.core.conditions import Condition
    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Point, Trial

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

_Row = tuple[int, int, int, tuple[float, ...], tuple[float, ...]]
"""When it arrived, whose it is (a row of the codes), its step, losses and margins."""


@dataclass(frozen=True, eq=False)
class Arrays:
    """N rows."""

    owners: Numbers  # (N,) whose each is
    steps: Numbers  # (N,)
    losses: Array  # (N, M), infinite where the trial failed
    margins: Array  # (N, C), NaN where not known

    def followed_by(self, other: Arrays) -> Arrays:
        """These rows, then those of the other."""
        mine, its = ((each.owners, each.steps, each.losses, each.margins) for each in (self, other))
        return Arrays(*(np.concatenate(pair) for pair in zip(mine, its, strict=True)))


class CurveTable(Index):
    """A row for each stage that a trial has come to: the first report there, or before the next stage, for a script may
    report every tenth step only.

    Of a trial that has reported no loss on the way, what it came to in the end. A failed trial has a last row with
    infinite losses. `margins`: how well each constraint is kept, positive: met; NaN where that is not known.
    """

    follows_voided = False

    def __init__(self, space: Space, stages: tuple[int, ...], constraints: tuple[Condition, ...] = ()) -> None:
        self.encoding, self.stages = Encoding(space), stages
        self.memory: dict[Any, Any] = {}
        """What models of these rows keep from one decision to the next: it only saves time."""
        self._constraints = constraints
        self._position: dict[int, int] = {}  # of a trial, by its number, in the codes
        self._codes: list[Array] = []
        self._reached: dict[int, set[int]] = {}  # stages of a trial that have a row
        self._failed: set[int] = set()
        self._rows: list[_Row] = []
        self._in_order, self._objectives = True, 1
        self._arrays: Arrays | None = None
        self._stacked = np.empty((0, space.dim))  # codes

    def change(self, before: Trial | None, after: Trial) -> None:
        """Looks at new points of the curve alone."""
        number = after.number
        if number not in self._position:
            self._position[number] = len(self._codes)
            self._codes.append(self.encoding.space.encode(after.params))
            self._reached[number] = set()
        for point in after.curve[len(before.curve) if before is not None else 0 :]:
            if point.losses is not None and point.step >= self.stages[0]:
                self._take(number, point, self.stages[bisect_right(self.stages, point.step) - 1])
        last = after.curve[-1].order if after.curve else 0
        if not self._reached[number] and after.losses is not None:
            self._reached[number].add(self.stages[-1])
            margins = tuple(math.nan if margin is None else margin for margin in after.margins)
            unknown = (math.nan,) * len(self._constraints)
            self._add(last, number, self.stages[-1], after.losses, margins or unknown)
        if after.state is State.FAILED and number not in self._failed:
            self._failed.add(number)
            self._add(last if self._reached[number] else 0, number, self.stages[-1], (), ())

    def _take(self, number: int, point: Point, stage: int) -> None:
        if stage not in self._reached[number] and point.losses is not None:
            self._reached[number].add(stage)
            margins = (condition.margin(point.metrics) for condition in self._constraints)
            known = tuple(math.nan if margin is None else float(margin) for margin in margins)
            self._add(point.order, number, stage, point.losses, known)

    def _add(self, order: int, number: int, step: int, losses: Sequence[float], margins: Sequence[float]) -> None:
        row = (order, self._position[number], step, tuple(losses), tuple(margins))
        if self._rows and row[:3] < self._rows[-1][:3]:
            self._in_order = False
        self._rows.append(row)
        self._objectives = max(self._objectives, len(row[3]))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def arrays(self) -> Arrays:
        """All rows, in order of arrival; made of those that are new since the last time."""
        if not self._in_order:
            self._rows.sort(key=lambda row: row[:3])
            self._in_order, self._arrays = True, None
        objectives = self._objectives
        if self._arrays is not None and self._arrays.losses.shape[1] != objectives:
            self._arrays = None  # the first ones had all failed
        known = 0 if self._arrays is None else len(self._arrays.owners)
        if known < len(self._rows) or self._arrays is None:
            new = self._arranged(self._rows[known:], objectives)
            self._arrays = new if self._arrays is None else self._arrays.followed_by(new)
        return self._arrays

    def _arranged(self, rows: Sequence[_Row], objectives: int) -> Arrays:
        bad, unknown = (math.inf,) * objectives, (math.nan,) * len(self._constraints)
        owners, steps = (np.array([row[at] for row in rows], dtype=np.int64) for at in (1, 2))
        losses = np.array([row[3] or bad for row in rows], dtype=float).reshape(len(rows), objectives)
        margins = np.array([row[4] or unknown for row in rows], dtype=float).reshape(len(rows), len(unknown))
        margins[~np.isfinite(margins)] = math.nan
        return Arrays(owners, steps, losses, margins)

    def codes(self, owners: Numbers) -> Array:
        """(N, dim) of those trials."""
        if len(self._stacked) < len(self._codes):
            self._stacked = np.concatenate([self._stacked, self._codes[len(self._stacked) :]])
        return np.asarray(self._stacked[owners])

    def codes_of(self, trials: Sequence[Trial]) -> Array:
        """(N, dim)."""
        return self.codes(np.array([self._position[trial.number] for trial in trials], dtype=np.int64))
