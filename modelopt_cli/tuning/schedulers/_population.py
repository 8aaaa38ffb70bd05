"""A population as it stands: who belongs to it, who lags, whose state is worth a copy, how many seats are empty."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from modelopt_cli.tuning.schedulers import SchedulerContext
from modelopt_cli.tuning.trials.lineage import losses_at
from modelopt_cli.tuning.trials.ranking import Losses, by_front, non_dominated
from modelopt_cli.tuning.trials.trial import State, Trial

_SIZE = 10  # where neither the option nor tuning.trials says it
_FRUITLESS = 3  # copies of one state that failed before their first report: no more are made of it


def populations(context: SchedulerContext, size: int | None) -> list[Population]:
    """One after the other: each `size` trials that began at step 0 (None: all of tuning.trials), and their copies."""
    roots = sum(trial.parent is None for trial in context.trials)
    limit = None if context.planned is None else max(context.planned, roots)
    members_each = size or limit or _SIZE
    groups: list[list[Trial]] = [[]]
    group_of: dict[int, int] = {}
    begun = 0
    for trial in context.trials:
        if trial.parent is None:
            group_of[trial.number], begun = begun // members_each, begun + 1
        else:
            group_of[trial.number] = group_of[trial.parent]
        while len(groups) <= group_of[trial.number]:
            groups.append([])
        groups[group_of[trial.number]].append(trial)
    if begun >= members_each * len(groups):
        groups.append([])  # the next one
    before = range(0, members_each * len(groups), members_each)  # members of earlier populations
    sizes = [members_each if limit is None else max(0, min(members_each, limit - count)) for count in before]
    return [Population(context.trials, group, own) for group, own in zip(groups, sizes, strict=True)]


@dataclass(frozen=True)
class Population:
    """`trials`: all of the study; `members`: those of this population, ended ones included, in order of number."""

    trials: Sequence[Trial]
    members: Sequence[Trial]
    size: int
    _rankings: dict[int, list[tuple[Trial, Losses | None]]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def present(self) -> list[Trial]:
        """Members that count: those under way, and those that have come to their end."""
        return [trial for trial in self.members if not trial.state.finished or trial.state is State.COMPLETED]

    @property
    def empty(self) -> int:
        """Seats of members that were stopped or have failed."""
        return sum(trial.parent is None for trial in self.members) - len(self.present)

    @property
    def unbegun(self) -> int:
        """Seats that no member has had yet."""
        return self.size - sum(trial.parent is None for trial in self.members)

    @property
    def sources(self) -> list[int]:
        """Whose state is to be kept: nobody's once all have come to their end."""
        present = self.present
        going_on = self.empty > 0 or self.unbegun > 0 or any(not trial.state.finished for trial in present)
        return [trial.number for trial in present] if going_on else []

    def replaced(self, copies: int) -> Trial:
        """Whose seat the next copy takes, when there will be `copies` before it."""
        ended = [trial for trial in self.members if trial.state in (State.STOPPED, State.FAILED)]
        return sorted(ended, key=lambda trial: (trial.step, trial.number))[copies]

    @property
    def copies(self) -> int:
        """How many of the members began as copies."""
        return sum(trial.parent is not None for trial in self.members)

    def common(self, step: int) -> int:
        """The last step, up to `step`, that half of those present have come to: there they are compared."""
        steps = sorted((trial.step for trial in self.present), reverse=True)
        return min(step, steps[(len(steps) - 1) // 2]) if steps else step

    def ranked(self, step: int) -> list[tuple[Trial, Losses | None]]:
        """Who came to a step, with their losses there, the best first; whatever became of them since.

        Without losses one comes last. Not among them are copies that began there or later: they took a seat in it.
        """
        if step not in self._rankings:
            self._rankings[step] = self._ranking(step)
        return self._rankings[step]

    def _ranking(self, step: int) -> list[tuple[Trial, Losses | None]]:
        came = [trial for trial in self.members if trial.born < step <= trial.step]
        at_step = [(trial, losses_at(self.trials, trial, step)) for trial in came]
        known = [(trial, losses) for trial, losses in at_step if losses is not None]
        order = by_front([losses for _, losses in known])
        return [*(known[index] for index in order), *((trial, None) for trial, losses in at_step if losses is None)]

    def donors(self, step: int, quantile: float) -> list[Trial]:
        """The best at a step, of those present that have a state to copy."""
        ranked, present = self.ranked(step), {trial.number for trial in self.present}
        able = [
            trial
            for trial, losses in ranked
            if losses is not None
            and trial.number in present
            and trial.saved is not None
            and self._fruitless[trial.number, trial.saved] < _FRUITLESS
        ]
        return able[: max(1, share(quantile, len(ranked)))]

    @cached_property
    def _fruitless(self) -> Counter[tuple[int | None, int]]:
        """(Parent, step) -> how many copies of that state failed before their first report."""
        failed = [trial for trial in self.members if trial.state is State.FAILED and not trial.curve]
        return Counter((trial.parent, trial.born) for trial in failed)

    def worst(self, step: int, quantile: float) -> set[int]:
        """Numbers of the worst at a step; not those that are as good as one of the best, or beaten by none."""
        ranked = self.ranked(step)
        count = share(quantile, len(ranked))
        known = [losses for _, losses in ranked if losses is not None]
        good = [*known[:count], *(known[index] for index in non_dominated(known))]
        return {trial.number for trial, losses in ranked[len(ranked) - count :] if losses not in good}


def share(quantile: float, count: int) -> int:
    """How many the worst, or the best, of a population are: one at least, none of one that is alone."""
    return 0 if count < 2 else max(1, math.floor(quantile * count + 1e-9))
