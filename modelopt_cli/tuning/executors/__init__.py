"""Executors: where, and how many at a time, trials are computed. One file each.

An executor opens a pool, which carries out decisions on trials and tells what became of them as events.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from modelopt_cli.core.errors import FailureKind
from modelopt_cli.core.strategy import Strategy

if TYPE_CHECKING:
    from modelopt_cli.tuning.objective import Objective, StepReport
    from modelopt_cli.tuning.trials.trial import Trial

__all__ = ["NO_LIMITS", "Event", "Executor", "Limits", "Pool"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one trial may use. None: no limit."""

    seconds: float | None = None
    bytes: int | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Event:
    """What a pool tells: a trial reported, reached its `until`, finished, or failed."""

    number: int  # of the trial
    reports: Sequence[StepReport] = ()  # new points of the curve, in order
    metrics: Mapping[str, float] | None = None  # set when the run is complete or was stopped
    step: int = 0  # finished steps
    total: int | None = None  # steps of a complete run, where they are known
    done: bool = False  # the trial has ended; `metrics` or `failure` say how
    waits: bool = False  # has reached its `until` and waits for a decision
    failure: FailureKind | None = None
    reason: str = ""
    seconds: float = 0.0  # computing time since the last event of this trial
    again: bool = False  # a state that it goes on from was lost, and has been computed again


class Pool(ABC):
    """Carries out decisions on trials. A context manager: leaving it ends everything within 10 s."""

    slots: int  # how many trials may be under way at once
    peak_bytes: int = 0  # the most memory that the trials' processes held together, as far as it was seen

    @abstractmethod
    def start(self, trial: Trial, until: int | None, ancestors: Sequence[Trial] = ()) -> None:
        """Compute `trial` up to step `until` (None: to the end): begin it, or go on with one that waits or is paused.

        Returns at once. One with `ancestors` (trials/lineage.py, without the trial itself) begins with the state that
        the last of them had at the trial's `born`. A trial whose own state is lost begins there again (or at step 0),
        and reports again what it has reported; an ancestor's lost state is computed again, with that ancestor's
        settings.
        """

    @abstractmethod
    def stop(self, trial: Trial, ancestors: Sequence[Trial] = ()) -> None:
        """End a trial that waits at its `until`, or is paused; its metrics come as an event with `done`."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Event]:
        """New events; blocks for at most `seconds` when there are none. A serial pool computes here."""

    def pause(self, number: int) -> None:  # noqa: B027  (a pool may hold all trials as they are)
        """Keep the state of a trial that waits at its `until`, and free its slot."""

    def keep(self, numbers: Collection[int]) -> None:  # noqa: B027  (a pool may have nothing to keep)
        """From now on the last states of these trials stay when they go on or end; those of all others are freed."""

    def news(self) -> list[str]:
        """What the user should know now, each told once: that it waits for a machine, that it has lost one."""
        return []

    def remarks(self) -> list[str]:
        """What the report should say of how trials were computed, at the end."""
        return []

    def close(self) -> None:  # noqa: B027  (a pool may have nothing that runs on)
        """End everything that runs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Executor(Strategy):
    """Base of all executors."""

    family: ClassVar[str] = "executors"

    def problem(self, limits: Limits) -> str | None:
        """Why it cannot enforce these limits: rule; remedy. None when it can."""
        return None

    def device_problem(self, device: str) -> str | None:
        """Why trials cannot have the device that the experiment names: rule; remedy. None when they can."""
        return None

    @abstractmethod
    def places(self, workers: int | None, cores: int) -> int:
        """How many trials it computes at a time, where `tuning.workers` is `workers` and this machine has `cores`.

        May ask a cluster what room it has. Raises UsageError where no trial could be computed at all.
        """

    @abstractmethod
    def open(
        self, objective: Objective, workers: int = 1, limits: Limits = NO_LIMITS, folder: Path | None = None
    ) -> Pool:
        """A pool that computes runs of `objective`, up to `workers` at a time.

        `folder`: made when states of paused trials do not fit in memory, and removed in the end; None: a temporary one.
        Raises UsageError for a limit that it cannot enforce.
        """
