"""What a search calls: an objective opens runs, and a run advances step by step.

So any trial can be stopped early, paused, moved to another worker and resumed, whatever it computes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelopt_cli.tuning.trials.trial import Params

StepReport = tuple[int, Mapping[str, float]]
"""(step, metrics) after that step."""


@dataclass(frozen=True, slots=True)
class Part:
    """Work of one kind: so many units, each of which costs as much time as the others of its kind, in any part.

    By the other fields its time can be foreseen before a unit of its kind was seen.
    """

    kind: str
    units: float = 1.0
    like: tuple[tuple[str, float], ...] = ()  # a unit costs the sum of these: (kind, how many units of it)
    seconds: float | None = None  # and so many seconds more
    counts: str = ""  # what is counted within a unit (core/work.py), if that tells how much of it is done


class Run(ABC):
    """One trial being computed. A step is an epoch, a fold, or whatever the workflow reports by."""

    step: int = 0  # finished steps
    total: int = 1  # steps of a complete run
    doing: str = ""  # what the next step is about, where a run has several parts
    leaps: bool = False  # `advance` is asked for the step to reach at once, and for no other between: it may compute
    # that step from the start, or steps may be far apart

    @abstractmethod
    def advance(self, until: int) -> list[StepReport]:
        """Compute up to and including step `until` (at most `total`); return a report for each new step.

        Raises TrialError (kind nan, memory, ...) when the trial cannot go on.
        """

    @abstractmethod
    def metrics(self) -> Mapping[str, float]:
        """The metrics that stand for the run as it is now (finished or stopped); may cost an evaluation."""

    @property
    def warnings(self) -> Sequence[str]:
        """What whoever reads the result should know about how it came about, each once."""
        return ()

    @property
    def known_total(self) -> int | None:
        """`total`, as far as it is known: a script may run on, and its end is seen when it has come."""
        return self.total

    @property
    def ahead(self) -> Sequence[Part]:
        """What is left of the run, the part under way first; empty: nothing, or nothing is known of it."""
        total = self.known_total
        return [] if total is None else [Part(self.doing or "step", total - self.step)]

    def state(self) -> Any:
        """What `Objective.open(..., state=...)` needs to go on from here, picklable; None: restart from step 0."""
        return None

    def suspend(self) -> bool:
        """Hold still until `advance` is called again, for a run that has no `state`; False: it cannot."""
        return False

    def close(self) -> None:  # noqa: B027  (most runs hold nothing)
        """Free what the run holds."""


@dataclass(frozen=True, slots=True)
class Folders:
    """What trials find on disk and leave there, for machines that do not see the files of the one that searches."""

    found: tuple[Path, ...] = ()
    """Files and folders; absolute."""
    left: tuple[str, ...] = ()
    """Absolute patterns, as of glob in the last part, with {number} and {seed} of the trial."""
    watched: tuple[str, ...] = ()
    """Those of them that somebody may look at while the trial runs."""


class Objective(ABC):
    """Opens runs. Picklable, because worker processes open their own."""

    device: str = "cpu"
    """Where its runs compute: auto, cuda or cuda:N as in the experiment file; cpu too where a run takes all GPUs."""

    def prepare(self) -> None:  # noqa: B027  (most objectives need nothing)
        """Do once a worker process what every trial needs (slow imports), before any trial's clock runs."""

    @abstractmethod
    def open(self, params: Params, seed: int, state: Any = None) -> Run:
        """A run of `params`; from `state` when given, else from the start. Raises TrialError."""

    def open_trial(self, number: int, params: Params, seed: int, state: Any = None) -> Run:
        """`open`, for the trial of this number; for objectives that keep something of each under its number."""
        return self.open(params, seed, state)

    def folders(self) -> Folders:
        """What trials need of this machine's files; by default nothing."""
        return Folders()

    def ended(self, run: Run, seed: int, metrics: Mapping[str, float]) -> None:  # noqa: B027  (most keep nothing)
        """Keep what is to outlive a trial's run: it was completed or stopped, its metrics stand; it is closed next."""
