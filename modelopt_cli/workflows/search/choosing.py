"""Which trial of a search is wanted: the best by some metric among those that meet conditions, all on validation.

The test split has no say: it is read for what was chosen, afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelopt_cli.core.conditions import Condition, Goal
from modelopt_cli.core.errors import UnmetError, UsageError
from modelopt_cli.core.readable import measure, plural
from modelopt_cli.experiment.expected_metrics import listed, nearest

if TYPE_CHECKING:
    from modelopt_cli.tuning.trials.trial import Trial


@dataclass(frozen=True)
class Wish:
    """`where`: what must hold; `goals`: what decides then, the first before the others."""

    where: tuple[Condition, ...] = ()
    goals: tuple[Goal, ...] = ()

    @classmethod
    def parse(cls, where: Sequence[str], minimize: Sequence[str], maximize: Sequence[str]) -> Wish:
        """Raises UsageError with the rule. What is to be minimized decides before what is to be maximized."""
        try:
            conditions = tuple(Condition.parse(text) for text in where)
        except ValueError as error:
            raise UsageError(f"--where: {error}") from None
        goals = []
        for direction, names in (("minimize", minimize), ("maximize", maximize)):
            for name in names:
                try:
                    goals.append(Goal.parse(f"{direction} {name}"))
                except ValueError:
                    raise UsageError(f"--{direction} {name}: name one metric, such as model.latency_ms") from None
        twice = next((a.metric for at, a in enumerate(goals) if a.metric in [b.metric for b in goals[:at]]), None)
        if twice is not None:
            raise UsageError(f"{twice} is named twice by --minimize and --maximize; name it once")
        wish = cls(conditions, tuple(goals))
        for name in wish.metrics:
            if name.startswith("test."):
                raise UsageError(
                    f"'{name}' looks at the test split, which is read for what was chosen and for nothing else; use "
                    f"validation.{name.removeprefix('test.')}"
                )
        return wish

    @property
    def metrics(self) -> list[str]:
        """What it looks at."""
        return [*(condition.metric for condition in self.where), *(goal.metric for goal in self.goals)]

    def check(self, known: Collection[str]) -> None:
        """Raise UsageError for a metric that no trial has."""
        for name in self.metrics:
            if name not in known:
                near = nearest(name, known)
                hint = f"did you mean '{near}'? " if near else ""
                raise UsageError(f"no trial of the search reported '{name}'; {hint}there are {listed(known)}")


@dataclass(frozen=True)
class Chosen:
    """The trial, and how many of how many would have done."""

    trial: Trial
    meeting: int
    among: int


def choose(trials: Sequence[Trial], wish: Wish) -> Chosen:
    """The best of `trials` (one at least) that meets all conditions; of equals the earliest.

    Raises UsageError for a metric that none of them has; UnmetError where none meets the conditions.
    """
    wish.check({name for trial in trials for name in trial.metrics})
    meeting = [trial for trial in trials if all(condition.met(trial.metrics) for condition in wish.where)]
    if not meeting:
        raise UnmetError(_nearest(trials, wish))
    return Chosen(min(meeting, key=lambda trial: (_losses(trial, wish), trial.number)), len(meeting), len(trials))


def _losses(trial: Trial, wish: Wish) -> tuple[float, ...]:
    losses = (goal.loss(trial.metrics) for goal in wish.goals)
    return tuple(math.inf if loss is None else loss for loss in losses)


def _nearest(trials: Sequence[Trial], wish: Wish) -> str:
    """What comes nearest: the trial with the least sum of distances, each relative to its bound."""
    closest = min(trials, key=lambda trial: (_distance(trial.metrics, wish.where), trial.number))
    asked = " and ".join(map(str, wish.where))
    parts = []
    for condition in wish.where:
        value = closest.metrics.get(condition.metric)
        if value is None:
            parts.append(f"{condition.metric} was not reported")
            continue
        missed = "" if condition.met(closest.metrics) else f" (missed by {abs(value - condition.bound):.4g})"
        parts.append(f"{condition.metric} {measure(condition.metric, value)}{missed}")
    of = f"none of {plural(len(trials), 'trial')}" if len(trials) > 1 else "the one trial that there is does not"
    verb = " meets" if len(trials) > 1 else " meet"
    return f"{of}{verb} {asked}; nearest comes trial {closest.number}: {', '.join(parts)}. Loosen --where"


def _distance(metrics: Mapping[str, float], where: Sequence[Condition]) -> float:
    """By how much the conditions are missed, in shares of their bounds."""
    return math.fsum(condition.violation(metrics) / (abs(condition.bound) or 1.0) for condition in where)
