"""What trials and new settings promise by their predicted curves: gain at the end by what more steps teach, per step.

Of one objective the gain is over the best that is promised without it. Of two or three it is in the hypervolume that
the promises of all trials leave open, or, where a trial would run to its end, all trials as they were last seen: of a
front many are to be completed, and not one. Of more objectives it is in an augmented Chebyshev norm with weights drawn
for the decision (Knowles 2006, "ParEGO"). The probability that constraints are kept at the end counts twice, as in the
sampler `bayesian`.

What the next steps teach is looked at in order of a bound, until nothing that is left can be better than the best: the
gain, were the end itself seen for the price of those steps. It holds because a gain grows with the deviation: expected
improvement does, and so does that of a hypervolume, which is convex in each loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtri

from modelopt_cli.tuning.samplers._common.history import MOST_OBJECTIVES
from modelopt_cli.tuning.samplers._gp.acquisition import (
    CAUTION,
    boxes,
    log_expected_hypervolume,
    log_expected_improvement,
)
from modelopt_cli.tuning.schedulers._curve_table import CurveTable
from modelopt_cli.tuning.schedulers._curves import Curves, losses_at_stages
from modelopt_cli.tuning.trials.ranking import non_dominated

if TYPE_CHECKING:
    from modelopt_cli.tuning.samplers._gp.growing import Sight

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

_BEHIND = 0.1  # of the range of all promises: so far behind the worst of them the hypervolume begins
_BATCH = 32  # candidates that are looked at closely at a time
_CLOSE = 1e-9  # rounding
_SURE = 1e-9  # deviation, at least
_LEAST = 1e-6  # deviation: what is surer than that is sure
_DRAWS = 64  # of which the moments of a norm are taken
_RHO = 0.05


class Prospects:
    """Models of all objectives and constraints, and what they say of candidates."""

    def __init__(self, table: CurveTable, rng: np.random.Generator) -> None:
        rows = table.arrays
        self._table = table
        self.objectives = [
            Curves(table, ("objective", at), losses_at_stages(column)) for at, column in enumerate(rows.losses.T)
        ]
        self._constraints = [
            Curves(table, ("constraint", at), _squeezed(-column), winsorize=False)
            for at, column in enumerate(rows.margins.T)
            if (column < 0).any()  # what was always kept tells nothing apart
        ]
        self.kept = self._kept(len(rows.owners))
        """(N,) whether a row of the table promises that all constraints will be kept."""
        self._weights: Array | None = None
        if len(self.objectives) > MOST_OBJECTIVES:
            self._weights = rng.dirichlet(np.ones(len(self.objectives)))
        self._promises = np.stack([model.targets for model in self.objectives], axis=1)  # (N, M)
        self._aim()

    def _kept(self, count: int) -> NDArray[np.bool_]:
        kept = np.ones(count, dtype=bool)
        for model in self._constraints:
            kept[model.known[model.targets > model.zero]] = False
        return kept

    def _aim(self) -> None:
        """What is to be improved on: the best target, the boxes that no promise dominates, or nothing."""
        self._best: float | None = None
        self._boxes: tuple[Array, Array] | None = None
        self._seen: tuple[Array, Array] | None = None  # what no trial dominates as it was last seen
        if not self.kept.any():
            return
        kept = self._promises[self.kept]
        if self._weights is not None:
            self._best = float(self._norm(kept).min())
        elif kept.shape[1] == 1:
            self._best = float(kept.min())
        else:
            latest = self._latest()
            reference = self._promises.max(axis=0) + _BEHIND * np.ptp(self._promises, axis=0) + 1e-9
            latest = latest[self.kept[latest]]
            self._boxes = boxes(self._promises[latest], reference)
            seen = np.stack([model.seen[latest] for model in self.objectives], axis=1)
            self._seen = boxes(seen, reference)

    def _latest(self) -> Numbers:
        """The last row of each trial."""
        owners = self._table.arrays.owners
        return np.unique(len(owners) - 1 - np.unique(owners[::-1], return_index=True)[1])

    def _norm(self, losses: Array) -> Array:
        """(..., M) -> (...)."""
        assert self._weights is not None
        low, high = self._promises.min(axis=0), self._promises.max(axis=0)
        weighted = self._weights * (losses - low) / np.where(high > low, high - low, 1.0)
        return np.asarray(weighted.max(axis=-1) + _RHO * weighted.sum(axis=-1))

    def leaders(self, count: int) -> Array:
        """Codes of the trials that promise most, (count, dim) at most; of several objectives some of the front."""
        if len(self.objectives) == 1 and self.kept.all():
            return self.objectives[0].leaders(count)
        rows = self._latest()
        if self.kept[rows].any():
            rows = rows[self.kept[rows]]
        promises = self._promises[rows]
        if self._weights is not None or promises.shape[1] == 1:
            keys = self._norm(promises) if self._weights is not None else promises[:, 0]
            rows = rows[np.argsort(keys, kind="stable")[:count]]
        else:
            front = non_dominated([tuple(row) for row in promises.tolist()])
            spread = np.linspace(0, len(front) - 1, min(len(front), 2 * count)).round().astype(int)
            rows = rows[np.array(front)[spread]]
        return self._table.codes(self._table.arrays.owners[rows])

    def fantasize(self, code: Array, step: int) -> None:
        """What is under way counts as it is predicted."""
        for model in (*self.objectives, *self._constraints):
            model.fantasize(code, step)

    # Candidates

    def of(self, codes: Array, held: int) -> Candidates:
        """What the candidates (N, dim) promise, of whom the first `held` are trials under way."""
        ends = [model.at_end(codes) for model in self.objectives]
        means = np.stack([model.means(end) for model, end in zip(self.objectives, ends, strict=True)], axis=1)
        likely = np.zeros(len(codes))
        keeps = np.ones(len(codes), dtype=bool)
        for model in self._constraints:
            end = model.solved(model.at_end(codes))
            likely += CAUTION * log_ndtr((model.zero - end.mean) / end.deviation)
            keeps &= end.mean <= model.zero
        return Candidates(self, codes, ends, means, likely, self._without(means, keeps, held))

    def _without(self, means: Array, keeps: NDArray[np.bool_], held: int) -> Array | None:
        """(N,) what there is to improve on without each: the best promise, or predicted of another trial under way.

        None where that is boxes, or there is nothing yet.
        """
        if self._best is None:
            return None
        final = self._norm(means) if self._weights is not None else means[:, 0]
        best = np.full(len(final), self._best)
        under_way = np.where(keeps[:held], final[:held], np.inf)
        if len(under_way):
            order = np.argsort(under_way, kind="stable")
            best = np.minimum(best, under_way[order[0]])
            second = under_way[order[1]] if len(order) > 1 else np.inf
            best[order[0]] = min(self._best, second)
        return best

    def log_gain(self, means: Array, deviations: Array, without: Array | None) -> Array:
        """(N,) logarithm of the gain that losses with means and deviations (N, M) are expected to bring."""
        if without is None:
            return np.zeros(len(means)) if self._boxes is None else self._log_hypervolume(means, deviations)
        if self._weights is None:
            # as if means were shifted, and the best were 0
            return log_expected_improvement(means[:, 0] - without, deviations[:, 0], 0.0)
        normal = ndtri((np.arange(_DRAWS) + 0.5) / _DRAWS)
        rng = np.random.default_rng(0)
        draws = np.stack([rng.permutation(normal) for _ in range(means.shape[1])], axis=1)  # (D, M)
        values = self._norm(means[:, None] + deviations[:, None] * draws)  # (N, D)
        return log_expected_improvement(values.mean(1) - without, np.maximum(values.std(1), 1e-9), 0.0)

    def log_realised(self, means: Array, deviations: Array) -> Array | None:
        """(N,) the same, were each to come to its end: over what was seen, not promised. None: as promised."""
        if self._seen is None:
            return None
        return log_expected_hypervolume(means, np.maximum(deviations, _LEAST), *self._seen)

    def _log_hypervolume(self, means: Array, deviations: Array) -> Array:
        assert self._boxes is not None
        return log_expected_hypervolume(means, np.maximum(deviations, _LEAST), *self._boxes)


class Candidates:
    """N settings at the end of their curves."""

    def __init__(
        self,
        prospects: Prospects,
        codes: Array,
        ends: Sequence[Sight],
        means: Array,
        likely: Array,
        without: Array | None,
    ) -> None:
        """`likely` (N,): added to the logarithm of each one's gain."""
        self._prospects, self._codes, self._ends = prospects, codes, ends
        self._means, self._likely, self._without = means, likely, without

    def _log_gain(self, index: Numbers, deviations: Sequence[Array]) -> Array:
        without = None if self._without is None else self._without[index]
        sure = np.maximum(np.stack(deviations, axis=1), _SURE)
        gain = self._prospects.log_gain(self._means[index], sure, without)
        return gain + self._likely[index]

    def prefer(self, weights: Array) -> None:
        """Add (N,) to the logarithm of each one's gain."""
        self._likely = self._likely + weights

    def best_to_finish(self) -> int:
        """The one that promises most at its end."""
        if self._means.shape[1] == 1 and not self._likely.any():
            return int(np.argmin(self._means[:, 0]))
        every = np.arange(len(self._means))
        deviations = [
            model.solved(end).deviation for model, end in zip(self._prospects.objectives, self._ends, strict=True)
        ]
        return int(np.argmax(self._log_gain(every, deviations)))

    def by_merit(self, horizons: Sequence[Numbers], cost: Callable[[Numbers, Numbers], Numbers]) -> Iterator[int]:
        """Indices by descending merit: the expected gain per step at the best of the `horizons`, (N,) steps each, of
        which the last is the end. `cost(index, until)`: steps."""
        every = np.arange(len(self._means))
        models = self._prospects.objectives
        solved = [model.solved(end) for model, end in zip(models, self._ends, strict=True)]
        at_end = self._log_gain(every, [each.deviation for each in solved])
        whole = np.log(np.maximum(cost(every, horizons[-1]), 1))
        realised = self._prospects.log_realised(self._means, np.stack([each.deviation for each in solved], axis=1))
        to_end = (at_end if realised is None else realised + self._likely) - whole
        # No step tells more of an end than the end itself.
        cheapest = np.log(np.maximum(np.min([cost(every, until) for until in horizons], axis=0), 1))
        bound = np.maximum(at_end - cheapest, to_end)

        def merit_of(index: Numbers) -> Array:
            merits = [to_end[index]]
            for until in (each[index] for each in horizons[:-1]):
                moved = [model.moved(end, index, until) for model, end in zip(models, solved, strict=True)]
                merits.append(self._log_gain(index, moved) - np.log(np.maximum(cost(index, until), 1)))
            return np.asarray(np.max(merits, axis=0))

        order = np.argsort(-bound, kind="stable")
        merit, looked_at = np.full(len(every), -np.inf), 0
        for _ in every:
            while looked_at < len(order) and merit.max() <= bound[order[looked_at]] + _CLOSE:
                index = order[looked_at : looked_at + _BATCH]
                merit[index] = merit_of(index)
                looked_at += len(index)
            best = int(np.argmax(merit))
            merit[best] = -np.inf
            yield best


def _squeezed(values: Array) -> Array:
    """sign(v) log(1 + |v| / s): keeps 0 and draws far values in (Eriksson and Poloczek, AISTATS 2021, section 3)."""
    known = np.abs(values[np.isfinite(values)])
    scale = (float(np.median(known)) or float(known.max())) if len(known) else 1.0
    return np.asarray(np.sign(values) * np.log1p(np.abs(values) / (scale or 1.0)))
