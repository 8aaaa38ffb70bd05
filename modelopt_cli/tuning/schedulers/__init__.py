"""Schedulers: which trials start, go on, pause or stop, and with what. One file each.

A stopper judges one trial at a time; a scheduler has all slots at its disposal, may pause a trial and come back to it.
"""

from __future__ import annotations

import math
import sys
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from modelopt_cli.core.seeds import derive
from modelopt_cli.core.strategy import Strategy
from modelopt_cli.tuning.trials.by_state import ByState, in_state
from modelopt_cli.tuning.trials.indexed import derived
from modelopt_cli.tuning.trials.trial import State

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.core.conditions import Condition, Goal
    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Params, Trial

__all__ = ["Decision", "Pause", "Resume", "Scheduler", "SchedulerContext", "Start", "Stop", "plain", "settled"]


@dataclass(frozen=True, slots=True)
class Start:
    """Run a new trial up to step `until` (None: to the end): `params`, or (None) what the study's sampler suggests.

    `parent`: the trial whose state it goes on from, as it was when that was last paused (None: it begins at step 0).
    """

    until: int | None = None
    params: Params | None = None
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Let a trial that waits, or is paused, go on up to step `until`."""

    number: int
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Keep a waiting trial's state and free its slot."""

    number: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End a trial that waits, or is paused; its metrics count as they are."""

    number: int
    reason: str


Decision = Start | Resume | Pause | Stop


def plain(decisions: Sequence[Decision]) -> list[list[Any]]:
    """Decisions as plain values, to be logged and compared: each as its name and its fields."""
    return [
        [type(decision).__name__.lower(), *(getattr(decision, name) for name in decision.__slots__)]
        for decision in decisions
    ]


@dataclass(frozen=True)
class SchedulerContext:
    """What a scheduler decides by: the history, who waits for a decision, and how many slots are free.

    One for each decision, during which no trial changes: what it looks up among all of them it keeps.

    `slots`: free ones, those of `waiting` trials not among them. `left`: how many trials may still be started by
    `tuning.trials`. `planned`: `tuning.trials` itself, None without a limit. `ending`: the search has found enough, and
    nothing new is to be begun. `seed`: the study's. `sizes`: the steps at which runs report, where each of them is
    computed from the start (`tuning.fidelity`); None: they report as they go on. `goals`, `constraints`: the study's.
    `open_ended`: how many steps a run has is known when it has ended (scripts); `declared_total`: how many the user
    says, which counts until then; `committed`: steps that those under way will still take.
    """

    space: Space
    trials: Sequence[Trial]
    waiting: Sequence[int]
    slots: int
    left: int
    planned: int | None
    ending: bool
    seed: int
    sizes: Sequence[int] | None = None
    goals: Sequence[Goal] = ()
    open_ended: bool = False
    declared_total: int | None = None
    committed: int = 0
    constraints: Sequence[Condition] = ()

    def rng(self) -> np.random.Generator:
        """A generator seeded by how far the history has come, so that the same history gives the same decisions."""
        import numpy as np

        states = derived(self.trials, ByState)
        return np.random.default_rng(derive(self.seed, "schedule", len(self.trials), states.reports, states.finished))

    @cached_property
    def paused(self) -> list[Trial]:
        """Trials whose state is kept."""
        return in_state(self.trials, State.PAUSED)

    @cached_property
    def held(self) -> list[Trial]:
        """Trials that can go on: those that wait first, then the paused ones."""
        return [*(self.trials[number] for number in self.waiting), *self.paused]

    @property
    def open_slots(self) -> int:
        """Free slots, once every waiting trial were paused."""
        return self.slots + len(self.waiting)

    @property
    def steps_left(self) -> float:
        """Of the steps of `planned` complete trials; inf without a plan, and before it is known how many that is."""
        if self.planned is None or self.total is None:
            return math.inf
        return self.planned * self.total - self.steps - self.committed

    @property
    def over(self) -> bool:
        """Whether what is held is to be ended."""
        return self.ending or self.steps_left <= 0

    @cached_property
    def steps(self) -> int:
        """Steps that all trials have taken together; where each size is computed from the start, the sum of all."""
        if self.sizes is not None:
            return sum(point.step for trial in self.trials for point in trial.curve)
        return sum(_taken(trial) for trial in self.trials)

    def cost(self, at: Any, until: Any) -> Any:
        """Steps that it takes to come from one to another, numbers or arrays; all of them, where sizes begin anew."""
        return until if self.sizes is not None else until - at

    @property
    def total(self) -> int | None:
        """Steps of a complete trial, the longest where they differ; None before that is known."""
        if self.sizes is not None:
            return self.sizes[-1]
        return max(self._seen, default=self.declared_total)

    @cached_property
    def _seen(self) -> list[int]:
        """Steps of complete trials, of those that have said so."""
        known = [trial.total for trial in self.trials if trial.total is not None]
        return [total for total in known if total < sys.maxsize or not self.open_ended]  # older logs: unknown

    @property
    def unmeasured(self) -> bool:
        """Whether trials must run to their end, so that it is known how many steps they have."""
        return self.open_ended and self.total is None

    def measure(self) -> list[Decision]:
        """What to do before it is known how many steps a complete trial has: the first trials run to their end.

        At most half of `planned`, so that steps are left to be shared out.
        """
        first = self.slots if self.planned is None else max(1, self.planned // 2)
        held = self.held
        under_way = derived(self.trials, ByState).count(State.RUNNING) - len(self.waiting)
        free = min(first - under_way, self.open_slots)
        resumed = [Resume(trial.number) for trial in held[: max(0, free)]]
        paused = [Pause(number) for number in self.waiting if number not in {each.number for each in resumed}]
        return [*paused, *resumed, *(Start() for _ in range(min(free - len(resumed), self.left)))]

    def to_the_end(self) -> list[Resume | Start]:
        """Who goes on to its end, whatever is decided on the others: trials that have come to the last step that is
        known of, and have not ended; and of runs whose length the user says, the first, which shows whether it is so.
        """
        total = self.total
        going_on: list[Resume | Start] = []
        lead = next((trial for trial in self.trials if trial.state in (State.RUNNING, State.PAUSED)), None)
        unproven = self.open_ended and self.declared_total is not None and not self._seen
        if unproven and lead is None and not self.over:
            going_on.append(Start())
        for trial in self.held:
            if total is not None and (trial.step >= total or (unproven and trial is lead)):
                going_on.append(Resume(trial.number))
        return going_on[: self.open_slots]


def _taken(trial: Trial) -> int:
    """Steps that a trial has taken. One that has ended took one at least, and all of a script that reported none."""
    steps = trial.step - trial.born
    if not trial.state.finished:
        return steps
    silent = trial.state is State.COMPLETED and not trial.curve
    return max(steps, (trial.total or 1) if silent else 1)


def settled(decisions: Sequence[Decision]) -> list[Decision]:
    """Decisions without the pauses of trials that go on, or stop, in the same list: their state need not be kept."""
    others = {decision.number for decision in decisions if isinstance(decision, Resume | Stop)}
    return [decision for decision in decisions if not (isinstance(decision, Pause) and decision.number in others)]


class Scheduler(Strategy):
    """Base of all schedulers. Stateless: what it knows is the history."""

    family: ClassVar[str] = "schedulers"
    several_objectives: ClassVar[bool] = True
    """False when it looks at one objective, and at no constraints."""
    sizes: ClassVar[bool] = True
    """False when it makes no sense of runs that train on growing parts of the data (`tuning.fidelity`)."""
    copies: ClassVar[bool] = False
    """True when trials start from the state of others."""

    def problem(self, trials: int | None, space: Space) -> str | None:
        """Why it cannot search `space` with `tuning.trials`: value, rule; remedy. None when it can."""
        return None

    def sources(self, context: SchedulerContext) -> Collection[int]:
        """Whose state others may still start from: it is kept when they go on, and when they have ended."""
        return ()

    @abstractmethod
    def next(self, context: SchedulerContext) -> list[Decision]:
        """Decisions on every trial that waits at its `until`, and on the free slots.

        A slot that a decision frees (Pause, Stop) may be given away in the same list. The search ends when nothing
        runs after the decisions were carried out.
        """
