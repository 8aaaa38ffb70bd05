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

from modelopt_cli.tuning.samplers._common.encoding import encoded
from modelopt_cli.tuning.samplers._common.neighbours import near
from modelopt_cli.tuning.samplers._common.untried import Untried
from modelopt_cli.tuning.samplers._gp.acquisition import log_expected_improvement
from modelopt_cli.tuning.schedulers import Decision, Pause, Resume, SchedulerContext, Start, Stop, settled
from modelopt_cli.tuning.schedulers._curves import Curves, any_reported
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
    queued = sum(trial.state is State.QUEUED for trial in context.trials)
    begun = len(context.trials) - queued
    first = max(min(initial_points, context.space.size) - begun, queued)
    if first > 0 or total is None:
        return [*decisions, *(Start(1) for _ in range(int(min(open_slots, max(first, 1)))))]
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
        self._curves = Curves(context.space, context.trials, self._stages)
        self._new = Untried(context.space, context.trials)
        space = context.space
        self._codes = np.concatenate([encoded(space, [trial.params for trial in held]), self._candidates()])
        self._at = np.array([trial.step for trial in held] + [0] * (len(self._codes) - len(held)))
        self._under_way = [
            (space.encode(trial.params), self._later(trial.step))
            for trial in context.trials
            if trial.state is State.RUNNING and trial.number not in context.waiting
        ]

    def _candidates(self) -> Array:
        """Codes of new settings."""
        leaders = self._curves.leaders(_LEADERS)
        space = self._context.space
        points = [self._rng.random((_RANDOM, space.dim))]
        if space.rules:
            points = [np.stack([space.encode(space.sample(self._rng)) for _ in range(_RANDOM)])]
        points += [near(leaders, width, _NEAR, self._rng) for width in _WIDTHS]
        return self._curves.encoding.snap(np.concatenate(points))

    def _later(self, step: int) -> int:
        return next((stage for stage in self._stages if stage > step), self._total)

    def finish(self, left: float) -> list[Decision]:
        """The trial that promises most runs to its end when the steps that are left just suffice for that."""
        if not self._held or left > self._total:
            return []
        self._fantasize()
        ends = self._curves.at_end(self._codes[: len(self._held)])
        index = int(np.argmin(self._curves.posterior(ends)[0]))
        if left > self._context.cost(self._at[index], self._total):
            return []
        trial = self._held[index]
        self._take(index, self._total)
        return [Resume(trial.number, self._total)]

    def _fantasize(self) -> None:
        """Trials that were given a slot count with their predicted losses."""
        for code, end in self._under_way:
            self._curves.fantasize(code, end)
        self._under_way.clear()

    def next(self) -> list[Decision]:
        """The best that is left, which then counts as under way; nothing when a finite space is used up."""
        self._fantasize()
        for index in np.argsort(-self._merit(), kind="stable"):
            end = self._later(int(self._at[index]))
            decision: Decision | None = None
            if index < len(self._held):
                decision = Resume(self._held[index].number, end)
            else:
                params = self._context.space.decode(self._codes[index])
                decision = Start(end, params) if self._new.take([params], 1) else None
            if decision is not None:
                self._take(int(index), end)
                return [decision]
        return []

    def _take(self, index: int, end: int) -> None:
        self._under_way.append((self._codes[index], end))
        if index < len(self._held):
            del self._held[index]
        self._codes = np.delete(self._codes, index, axis=0)
        self._at = np.delete(self._at, index)

    def _merit(self) -> Array:
        """(N,) log of the expected gain per step, at the best of three ends: the next stage, thrice the steps, all."""
        if not len(self._codes):
            return np.empty(0)
        ends = self._curves.at_end(self._codes)
        final, deviation = self._curves.posterior(ends)
        gain = final - self._without(final)
        merits = []
        next_stage = np.array([self._later(step) for step in self._at])
        thrice = np.minimum(3 * np.maximum(self._at, 1), self._total)
        if self._context.sizes is not None:
            thrice = np.asarray(self._stages)[np.searchsorted(self._stages, thrice)]
        for until, moved in (
            (next_stage, np.minimum(self._curves.moved(ends, self._codes, next_stage), deviation)),
            (thrice, np.minimum(self._curves.moved(ends, self._codes, thrice), deviation)),
            (self._total, deviation),
        ):
            merit = log_expected_improvement(gain, np.maximum(moved, 1e-9), 0.0)
            merits.append(merit - np.log(np.maximum(self._context.cost(self._at, until), 1)))
        return np.asarray(np.max(merits, axis=0))

    def _without(self, final: Array) -> Array:
        """(N,) what there is to improve on without each: the best seen, or predicted of another trial under way."""
        best = np.full(len(final), self._curves.best)
        under_way = final[: len(self._held)]
        if len(under_way):
            order = np.argsort(under_way, kind="stable")
            best = np.minimum(best, under_way[order[0]])
            second = under_way[order[1]] if len(order) > 1 else np.inf
            best[order[0]] = min(self._curves.best, second)
        return best


def stages(total: int, growth: float) -> list[int]:
    """The steps at which trials are weighed: 1, then grown by the factor (by one at least), at last `total`."""
    steps = [1]
    while steps[-1] < total:
        steps.append(min(total, max(steps[-1] + 1, round(steps[-1] * growth))))
    return steps
