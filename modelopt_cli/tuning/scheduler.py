"""Schedulers decide what runs next: which trials start, go on, pause or stop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelopt_cli.tuning.stoppers import Stopper
    from modelopt_cli.tuning.trial import Trial


@dataclass(frozen=True, slots=True)
class Start:
    """Ask the study for a trial and run it up to step `until` (None: to the end)."""

    until: int | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Let a trial that waits, or is paused, go on up to step `until`."""

    number: int
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Keep a waiting trial's state and free its place."""

    number: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End a waiting trial early; its metrics count as they are."""

    number: int
    reason: str


Decision = Start | Resume | Pause | Stop


def plain(decisions: Sequence[Decision]) -> list[list[Any]]:
    """Decisions as plain values, to be logged and compared: each its name and its fields."""
    return [[type(decision).__name__.lower(), *astuple(decision)] for decision in decisions]


class Scheduler(ABC):
    """Base of all schedulers. Stateless: what it knows is the history."""

    @abstractmethod
    def next(self, trials: Sequence[Trial], waiting: Sequence[int], slots: int) -> list[Decision]:
        """Decisions on every trial that waits at its `until`, and on up to `slots` free places."""


class SamplerAndStopper(Scheduler):
    """The default: the study's sampler starts trials, the stopper is asked after every report.

    Without a stopper a trial runs to its end in one go.
    """

    def __init__(self, stopper: Stopper | None) -> None:
        self._stopper = stopper

    def next(self, trials: Sequence[Trial], waiting: Sequence[int], slots: int) -> list[Decision]:
        """Stop or resume what waits; fill the free places with new trials."""
        decisions: list[Decision] = [self._decide(trials[number], trials) for number in waiting]
        until = None if self._stopper is None else 1
        return [*decisions, *(Start(until) for _ in range(slots))]

    def _decide(self, trial: Trial, trials: Sequence[Trial]) -> Decision:
        reason = self._stopper.decide(trial, trials) if self._stopper is not None else None
        if reason is not None:
            return Stop(trial.number, reason)
        return Resume(trial.number, trial.curve[-1].step + 1 if trial.curve else 1)
