"""Which trial gets a slot: the one from whose next steps most is to be learnt about where its curve ends, per step.

A process over settings and the logarithm of the step predicts, for every paused trial and for new settings, the final
loss, and how far its prediction would move if the trial ran to some step. That gives the expected gain over the best
that there is without it (knowledge gradient of Frazier et al. 2009, of the trial's own end), divided by the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._common.neighbours import near
from modelopt_cli.tuning.samplers._common.priors import Priors
from modelopt_cli.tuning.samplers._common.untried import Untried
from modelopt_cli.tuning.schedulers import Decision, Pause, Resume, SchedulerContext, Start, Stop, settled
from modelopt_cli.tuning.schedulers._curve_table import CurveTable
from modelopt_cli.tuning.schedulers._curves import any_reported
from modelopt_cli.tuning.schedulers._prospects import Prospects
from modelopt_cli.tuning.trials.by_state import ByState, in_state
from modelopt_cli.tuning.trials.indexed import derived
from modelopt_cli.tuning.trials.trial import State

if TYPE_CHECKING:
    from modelopt_cli.tuning.trials.trial import Trial

Array = NDArray[np.float64]

_RANDOM, _NEAR = 128, 64  # new settings that are weighed: anywhere, and (twice) near the best
_WIDTHS = (0.15, 0.03)
_LEADERS = 5


def decide(initial_points: int, growth: float, context: SchedulerContext) -> list[Decision]:
    """Decisions for all slots; see FreezeThaw."""
    open_slots, held, total = context.open_slots, context.held, context.total
    if open_slots == 0:
        return []
    ending = context.to_the_end()
    open_slots -= len(ending)
    resumed = {decision.number for decision in ending if isinstance(decision, Resume)}
    held = [trial for trial in held if trial.number not in resumed]
    if context.over:
        text = "the search ended before it was worth going on"
        return [*ending, *(Stop(trial.number, text) for trial in held[:open_slots])]
    if context.unmeasured:
        return context.measure()
    decisions: list[Decision] = settled([*(Pause(number) for number in context.waiting), *ending])
    if open_slots == 0:
        return decisions
    queued = derived(context.trials, ByState).count(State.QUEUED)
    begun = len(context.trials) - queued
    first = max(min(initial_points, context.space.size) - begun, queued)
    if first > 0 or total is None:
        return [*decisions, *_first(context, int(min(open_slots, max(first, 1))), queued)]
    if not any_reported(context.trials):  # no report holds the objective, so that only the ends of trials tell anything
        return context.measure()
    choice = _Choice(context, held, total, growth)
    left = context.steps_left
    for _ in range(open_slots):
        if left <= 0:  # what the slots before were given takes the rest
            break
        chosen = choice.finish(left) or choice.next()
        left -= sum(_steps(decision, context) for decision in chosen)
        decisions += chosen
    return settled(decisions)


def _first(context: SchedulerContext, count: int, queued: int) -> list[Decision]:
    """Trials to begin with: the sampler's, and some of the user's prior, where there is one."""
    priors, rng = Priors(context.space), context.rng()
    new = Untried(context.space, context.trials if priors.stated else ())
    starts: list[Decision] = []
    for at in range(count):
        draw = priors.first(len(context.trials) + at, rng) if at >= queued else None
        drawn = [] if draw is None else new.take([context.space.decode(draw)], 1)
        starts.append(Start(1, drawn[0] if drawn else None))
    return starts


def _steps(decision: Decision, context: SchedulerContext) -> float:
    """What a decision to compute takes, as far as its end is known."""
    match decision:
        case Resume(number, until) if until is not None:
            return float(context.cost(context.trials[number].step, until))
        case Start(until) if until is not None:
            return float(context.cost(0, until))
    return 0.0


class _Choice:
    """The candidates of one decision, of which each slot takes the best."""

    def __init__(self, context: SchedulerContext, held: Sequence[Trial], total: int, growth: float) -> None:
        self._context, self._held, self._total = context, list(held), total
        self._rng = context.rng()
        self._stages = list(context.sizes) if context.sizes is not None else stages(total, growth)
        table = derived(context.trials, CurveTable, context.space, tuple(self._stages), tuple(context.constraints))
        self._encoding = table.encoding
        self._prospects = Prospects(table, self._rng)
        self._new = Untried(context.space, context.trials)
        self._codes = np.concatenate([table.codes_of(held), self._candidates()])
        self._at = np.array([trial.step for trial in held] + [0] * (len(self._codes) - len(held)))
        under_way = [trial for trial in in_state(context.trials, State.RUNNING) if trial.number not in context.waiting]
        ends = self._later(np.array([trial.step for trial in under_way], dtype=np.int64))
        self._under_way = list(zip(table.codes_of(under_way), ends.tolist(), strict=True))

    def _candidates(self) -> Array:
        """Codes of new settings."""
        leaders = self._prospects.leaders(_LEADERS)
        space = self._context.space
        points = [self._rng.random((_RANDOM, space.dim))]
        if space.rules:
            points = [np.stack([space.encode(space.sample(self._rng)) for _ in range(_RANDOM)])]
        points += [near(leaders, width, _NEAR, self._rng) for width in _WIDTHS]
        return self._encoding.snap(self._encoding.priors.with_draws(np.concatenate(points), self._rng))

    def _later(self, steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N,) the stage after each step."""
        return np.append(self._stages, self._total)[np.searchsorted(self._stages, steps, side="right")]

    def finish(self, left: float) -> list[Decision]:
        """The trial that promises most runs to its end when the steps that are left just suffice for that."""
        if not self._held or left > self._total:
            return []
        self._fantasize()
        index = self._prospects.of(self._codes[: len(self._held)], len(self._held)).best_to_finish()
        if left > self._context.cost(self._at[index], self._total):
            return []
        trial = self._held[index]
        self._take(index, self._total)
        return [Resume(trial.number, self._total)]

    def _fantasize(self) -> None:
        """Trials that were given a slot count with their predicted losses."""
        for code, end in self._under_way:
            self._prospects.fantasize(code, end)
        self._under_way.clear()

    def next(self) -> list[Decision]:
        """The best that is left, which then counts as under way; nothing when a finite space is used up."""
        self._fantasize()
        if not len(self._codes):
            return []
        known = len(self._context.trials)
        candidates = self._prospects.of(self._codes, len(self._held))
        candidates.prefer(self._encoding.priors.weighted(np.zeros(len(self._codes)), self._codes, known))
        horizons = self._horizons()
        for index in candidates.by_merit(horizons, lambda some, until: self._context.cost(self._at[some], until)):
            end = int(horizons[0][index])
            decision: Decision | None = None
            if index < len(self._held):
                decision = Resume(self._held[index].number, end)
            else:
                params = self._context.space.decode(self._codes[index])
                decision = Start(end, params) if self._new.take([params], 1) else None
            if decision is not None:
                self._take(index, end)
                return [decision]
        return []

    def _take(self, index: int, end: int) -> None:
        self._under_way.append((self._codes[index], end))
        if index < len(self._held):
            del self._held[index]
        self._codes = np.delete(self._codes, index, axis=0)
        self._at = np.delete(self._at, index)

    def _horizons(self) -> list[NDArray[np.int64]]:
        """Steps (N,) at which each is weighed: the next stage, thrice its steps, all."""
        thrice = np.minimum(3 * np.maximum(self._at, 1), self._total)
        if self._context.sizes is not None:
            thrice = np.asarray(self._stages)[np.searchsorted(self._stages, thrice)]
        return [self._later(self._at), thrice, np.full(len(self._at), self._total)]


def stages(total: int, growth: float) -> list[int]:
    """The steps at which trials are weighed: 1, then grown by the factor (by one at least), at last `total`."""
    steps = [1]
    while steps[-1] < total:
        steps.append(min(total, max(steps[-1] + 1, round(steps[-1] * growth))))
    return steps
