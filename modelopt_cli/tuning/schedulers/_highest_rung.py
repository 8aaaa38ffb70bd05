"""The new settings of BOHB: by Parzen estimators of the losses at the highest rung that enough trials have reached.

The estimators are those of the sampler `tpe`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelopt_cli.tuning.samplers._common.priors import Priors
from modelopt_cli.tuning.samplers._common.untried import Untried
from modelopt_cli.tuning.samplers.tpe import Tpe
from modelopt_cli.tuning.stoppers._rungs import at_rung
from modelopt_cli.tuning.trials.by_state import ByState
from modelopt_cli.tuning.trials.indexed import derived
from modelopt_cli.tuning.trials.trial import State

if TYPE_CHECKING:
    from modelopt_cli.tuning.schedulers import SchedulerContext
    from modelopt_cli.tuning.trials.trial import Params, Trial


class Suggestions:
    """Called for each new trial that one decision starts; see _brackets.Suggest."""

    def __init__(self, context: SchedulerContext, rungs: Sequence[int], random_share: float) -> None:
        self._context, self._rungs, self._random_share = context, rungs, random_share
        self._rng = context.rng()
        self._suggested: list[Params] = []  # since the history
        self._priors = Priors(context.space)
        self._new = Untried(context.space, context.trials if self._priors.stated else ())

    def __call__(self) -> Params | None:
        """The next setting; None: the sampler's."""
        context = self._context
        random = self._rng.random() < self._random_share
        if derived(context.trials, ByState).count(State.QUEUED):
            return None
        known = None if random else self._history()
        if known is None:
            return self._first()
        under_way = [
            dataclasses.replace(known[-1], number=len(known) + count, params=params, state=State.RUNNING, losses=None)
            for count, params in enumerate(self._suggested)
        ]
        settings = Tpe(initial_points=1).suggest(context.space, [*known, *under_way], self._rng, 1)
        self._suggested += settings
        return settings[0] if settings else None

    def _first(self) -> Params | None:
        """What the user's prior gives, where there is one and little is known; see Priors.first."""
        space, trials = self._context.space, self._context.trials
        draw = self._priors.first(len(trials) + len(self._suggested), self._rng)
        if draw is None:
            return None
        settings = self._new.take([space.decode(draw)], 1)
        self._suggested += settings
        return settings[0] if settings else None

    def _history(self) -> list[Trial] | None:
        """All trials as if they ended at that rung; who has not come there is under way."""
        for rung in reversed(self._rungs):
            ended = [_at(trial, rung) for trial in self._context.trials]
            if sum(trial.state is State.COMPLETED for trial in ended) > self._context.space.dim + 1:
                return ended
        return None


def _at(trial: Trial, rung: int) -> Trial:
    losses = at_rung(trial, rung)
    if trial.state is State.FAILED:
        return trial
    if losses is None:
        return dataclasses.replace(trial, state=State.RUNNING, losses=None, curve=())
    return dataclasses.replace(trial, state=State.COMPLETED, losses=losses)
