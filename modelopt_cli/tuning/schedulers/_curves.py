"""Learning curves of one metric, of all trials, by a Gaussian process over settings and the logarithm of the step.

For the scheduler `freeze_thaw`, which asks it where a curve will end, and how much more steps would tell about that.

A decision costs little because the process grows with the search (samplers/_gp/growing.py). Its hyperparameters are
fitted anew each time that the reports have grown by a quarter. It is conditioned on all reports while there are few; of
more, on those that tell most of the ones that there were at the last hundred, and on all that came since. Which these
are depends on the reports alone, so that the same history gives the same decisions.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._common.encoding import Points
from modelopt_cli.tuning.samplers._common.history import standard, winsorized
from modelopt_cli.tuning.samplers._gp.growing import GrowingProcess, Sight
from modelopt_cli.tuning.samplers._gp.process import QueryPoints, fitted
from modelopt_cli.tuning.trials.divergence import drawn_back
from modelopt_cli.tuning.trials.trial import State

if TYPE_CHECKING:
    from modelopt_cli.tuning.schedulers._curve_table import CurveTable
    from modelopt_cli.tuning.trials.trial import Trial

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

_FITTED, _HELD = 80, 200  # points that hyperparameters are fitted to, and that the process is conditioned on
_EVERY = 50  # reports, after which the points that the process is conditioned on are chosen anew
_FIRST, _MORE = 8, 1.25  # points at the first fit, and their growth until the next


@dataclass(frozen=True, eq=False)
class Solved:
    """What a process says of M settings."""

    sight: Sight
    queries: QueryPoints
    mean: Array  # (M,)
    deviation: Array  # (M,)


class Curves:
    """Values at the stages of `table` (the last is the end of a trial), lower is better."""

    def __init__(self, table: CurveTable, name: Hashable, values: Array, *, winsorize: bool = True) -> None:
        """`values` (N,) of the table's rows; NaN: not known there. `name`: what they are, for the table's memory.

        Raises ValueError where none is known (see `any_reported`).
        """
        self._table, self._total = table, table.stages[-1]
        self.known = np.flatnonzero(~np.isnan(values))
        """(K,) rows of the table whose value is known."""
        if not len(self.known):
            raise ValueError("no report holds a value")
        rows = table.arrays
        self._memory: dict[str, tuple[Any, Any]] = table.memory.setdefault(name, {})
        self._owners, self._steps = rows.owners[self.known], rows.steps[self.known]
        self._values = values[self.known]
        count = len(self._values)
        fit = _milestone(count)
        hyper = self._hyper(fit)
        # The process tells settings apart; how the typical curve goes on is taken out, so that it need not guess it.
        promises = self._values - self._decline_to_come(self._values, self._owners, self._steps)
        drawn_in = winsorized(promises, promises) if winsorize else promises
        self.targets = standard(drawn_in)
        """(K,) with mean 0 and variance 1: where each curve will end, were it to go on as the typical one."""
        self.zero = float(-drawn_in.mean() / (drawn_in.std() or 1.0))
        """The target of value 0."""
        seen = winsorized(self._values, promises) if winsorize else self._values
        self.seen = (seen - drawn_in.mean()) / (drawn_in.std() or 1.0)
        """(K,) the values themselves, on the scale of the targets."""
        self._process, self._held = self._conditioned(hyper, fit)
        self._held_targets = self.targets[self._held]
        self._process = self._process.told(self._held_targets)

    def _content(self, count: int) -> tuple[bytes, bytes, bytes]:
        """What the first rows hold."""
        return self._values[:count].tobytes(), self._owners[:count].tobytes(), self._steps[:count].tobytes()

    def _remembered(self, name: str, key: Hashable, make: Any) -> Any:
        if name not in self._memory or self._memory[name][0] != key:
            self._memory[name] = key, make()
        return self._memory[name][1]

    def _hyper(self, count: int) -> Array:
        """Fitted to the points that there were at the last milestone, so that most decisions need no fit."""

        def fit() -> Array:
            early = np.lexsort((self._steps[:count], self._owners[:count]))
            owners, steps, values = self._owners[early], self._steps[early], self._values[early]
            kept = _thinned(values, owners, steps, _FITTED)
            targets = standard(winsorized(values, values))[kept]
            return fitted(self._points(owners[kept], steps[kept]), targets, starts=1)

        hyper: Array = self._remembered("hyper", self._content(count), fit)
        return hyper

    def _conditioned(self, hyper: Array, fit: int) -> tuple[GrowingProcess, Numbers]:
        """The process without targets, and which of the known rows it is conditioned on."""
        count = len(self._values)
        first = fit if count <= _HELD else _HELD + (count - _HELD - 1) // _EVERY * _EVERY
        content = self._content(first)

        def chosen() -> Numbers:
            if count <= _HELD:
                return np.arange(first)
            order = np.lexsort((self._steps[:first], self._owners[:first]))
            owners, steps, values = self._owners[order], self._steps[order], self._values[order]
            promises = values - self._decline_to_come(values, owners, steps)
            return np.sort(order[_thinned(promises, owners, steps, _HELD - _EVERY)])

        kept: Numbers = self._remembered("kept", (count <= _HELD, *content), chosen)
        key = (hyper.tobytes(), *content)
        begun: GrowingProcess = self._remembered(
            "begun", key, lambda: GrowingProcess(self._points(self._owners[kept], self._steps[kept]), hyper)
        )
        later = self._content(count)
        size = len(later[0])
        start, process = first, begun
        if "grown" in self._memory:
            (known_key, known), process_then = self._memory["grown"]
            length = len(known[0])
            if known_key == key and length <= size and all(a == b[:length] for a, b in zip(known, later, strict=True)):
                start, process = length // self._values.itemsize, process_then
        process = process.grown(self._points(self._owners[start:], self._steps[start:]))
        self._memory["grown"] = (key, later), process
        return process, np.concatenate([kept, np.arange(first, count)])

    def _decline_to_come(self, values: Array, owners: Numbers, steps: Numbers) -> Array:
        """(N,) how much lower the typical value still was at the last step, from each point's step on; usually above 0.

        From step to step the median change of the trials that have both.
        """
        stages = np.searchsorted(self._table.stages, steps)
        at = np.full((len(self._table.stages), int(owners.max()) + 1), np.nan)
        at[stages, owners] = values
        level, levels = 0.0, np.zeros(len(at))
        before: Array | None = None
        for stage in np.flatnonzero(np.bincount(stages, minlength=len(at))):
            if before is not None:
                changes = at[stage] - before
                changes = changes[~np.isnan(changes)]
                level += float(np.median(changes)) if len(changes) else 0.0
            levels[stage], before = level, at[stage]
        return np.asarray((levels - level)[stages])

    def _points(self, owners: Numbers, steps: Numbers) -> Points:
        return self.points(self._table.codes(owners), steps)

    def points(self, codes: Array, steps: Numbers) -> Points:
        """Settings (N, dim) at steps (N,): the step is one more number, log(step) / log(total)."""
        settings = self._table.encoding.points(codes)
        return Points(np.concatenate([settings.numbers, self._time(steps)[:, None]], axis=1), settings.categories)

    def _time(self, steps: Numbers) -> Array:
        return np.asarray(np.log(np.maximum(steps, 1)) / math.log(max(self._total, 2)))

    @property
    def best(self) -> float:
        """The lowest target: what the best point promises, were its curve to go on as the typical one."""
        return float(self.targets.min())

    def leaders(self, count: int) -> Array:
        """Codes of the trials that promise most, (count, dim) at most."""
        few = np.arange(len(self.targets))
        if len(few) > _SORTED:
            few = np.flatnonzero(self.targets <= np.partition(self.targets, _SORTED - 1)[_SORTED - 1])
        order = few[np.lexsort((self._steps[few], self._owners[few], self.targets[few]))]
        first = list(dict.fromkeys(self._owners[order].tolist()))
        if len(first) < count and len(few) < len(self.targets):
            order = np.lexsort((self._steps, self._owners, self.targets))
            first = list(dict.fromkeys(self._owners[order].tolist()))
        return self._table.codes(np.array(first[:count], dtype=np.int64))

    def at_end(self, codes: Array) -> Sight:
        """Settings (N, dim) at the end of their curves."""
        return self._process.sight(self.points(codes, np.full(len(codes), self._total)))

    def means(self, ends: Sight) -> Array:
        """(N,) of the target there."""
        return self._process.means(ends)

    def moved(self, ends: Solved, index: Numbers, steps: Numbers) -> Array:
        """(K,) deviation of what is predicted at some of the ends, were their curves known up to `steps` (K,)."""
        sight = ends.sight.take(index)
        solved = QueryPoints(sight.points, sight.warped, sight.cross, ends.queries.solved[:, index])
        partners = self._process.solved(self._process.moved_along(sight, self._time(steps)))
        covariance, variance = self._process.paired_covariance(solved, partners)
        return np.asarray(
            np.minimum(np.abs(covariance) / np.sqrt(variance + self._process.noise), ends.deviation[index])
        )

    def solved(self, ends: Sight) -> Solved:
        """Mean and deviation at the ends, and what it takes to know what would move them."""
        queries = self._process.solved(ends)
        return Solved(ends, queries, *self._process.posterior(queries))

    def fantasize(self, code: Array, step: int) -> None:
        """What is under way counts with its predicted value (Ginsbourger et al., 2010, "Kriging believer")."""
        point = self.points(code[None], np.array([step]))
        predicted = self._process.means(self._process.sight(point))
        self._held_targets = np.append(self._held_targets, predicted[0])
        self._process = self._process.grown(point).told(self._held_targets)


_SORTED = 64  # targets that are looked at for the leaders


def losses_at_stages(losses: Array) -> Array:
    """(N,) of one objective, infinite where a trial failed: that ends with the worst of all; what diverged counts as no
    worse than that."""
    finite = np.isfinite(losses)
    tamed = np.where(finite, losses, 0.0)
    tamed[finite] = drawn_back(losses[finite], certain=True)
    return np.where(finite, tamed, tamed[finite].max() if finite.any() else 0.0)


def any_reported(trials: Sequence[Trial]) -> bool:
    """Whether something is known of some trial's curve: a report with losses, its end, or that it failed."""
    return any(
        trial.state is State.FAILED
        or trial.losses is not None
        or any(point.losses is not None for point in trial.curve)
        for trial in trials
    )


def _milestone(count: int) -> int:
    """The last of 8, 11, 15, ... that is not above `count`; `count` itself where there are fewer."""
    last = _FIRST
    while (after := round(last * _MORE) + 1) <= count:
        last = after
    return min(last, count)


def _thinned(losses: Array, owners: Numbers, steps: Numbers, most: int) -> Numbers:
    """All points, or `most`: first the last ones of the best trials, the others spread evenly over the rest."""
    if len(losses) <= most:
        return np.arange(len(losses))
    last = np.zeros(owners.max() + 1, dtype=np.int64)
    np.maximum.at(last, owners, steps)
    order = np.lexsort((losses, last[owners] != steps))
    rest = order[most // 2 :]
    spread = rest[np.linspace(0, len(rest) - 1, most - most // 2).astype(np.int64)]
    return np.sort(np.concatenate([order[: most // 2], spread]))
