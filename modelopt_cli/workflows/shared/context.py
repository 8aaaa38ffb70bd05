"""What a workflow is, and what it is given besides the experiment: where to write, whom to tell, when to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from modelopt_cli.tuning.objective import Part

if TYPE_CHECKING:
    from modelopt_cli.core.conditions import Condition
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.results.report import Report
    from modelopt_cli.results.run_directory import RunDirectory
    from modelopt_cli.tuning.trials.trial import Trial


@dataclass(frozen=True, slots=True)
class Message:
    """Something the user should read."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class RunBegun:
    """Nothing stands in the way of the run any more: from here on it has begun. May be told more than once."""


@dataclass(frozen=True, slots=True)
class SeedBegun:
    """One of the runs of several seeds begins, or goes on."""

    seed: int


@dataclass(frozen=True, slots=True)
class SeedEnded:
    """One of the runs of several seeds has ended; also one that was finished before and is only read."""

    seed: int
    report: Report


@dataclass(frozen=True, slots=True)
class SearchStarted:
    """A search begins or resumes: `planned` trials in all (None: open), `finished` of them already done."""

    name: str
    planned: int | None
    finished: int
    goals: tuple[str, ...]
    trials: Sequence[Trial] = ()  # those that there are already
    workers: int = 1
    timeout: float | None = None  # seconds after which no trial goes on
    stops: bool = False  # whether trials may be ended early
    shares_steps: bool = False  # a scheduler gives the steps of `budget` complete trials to more, shorter ones
    budget: int | None = None
    from_start: bool = False  # each of their steps is computed from the start (sizes of tuning.fidelity)
    may_end_before: bool = False  # a rule may end it before all are tried
    refits: bool = False  # the best setting is trained once more in the end


@dataclass(frozen=True, slots=True)
class TrialChanged:
    """A trial was started, reported or ended; `best` is the best finished trial so far."""

    trial: Trial
    best: Trial | None


@dataclass(frozen=True, slots=True)
class SearchEnded:
    """The last trial has ended; what follows is about the best one."""


@dataclass(frozen=True, slots=True)
class EpochEnded:
    """One epoch (or fold) of a single training run."""

    step: int
    total: int | None  # None: unknown
    metrics: Mapping[str, float]
    doing: str = ""  # which part of the run it belongs to, where there are several


@dataclass(frozen=True, slots=True)
class StageBegun:
    """A part of a run that may take long begins: what is being done from now on."""

    text: str
    whole: bool = False  # there is no other part


@dataclass(frozen=True, slots=True)
class NextSeed:
    """The run of another seed begins, the `number`th (from 1) of so many."""

    seed: int
    number: int
    of: int


@dataclass(frozen=True, slots=True)
class Counted:
    """Within a stage: so many of `what` ("batches") are done, `of` so many (None: unknown)."""

    what: str
    done: int
    of: int | None


@dataclass(frozen=True, slots=True)
class CourseAhead:
    """What is left of a run, part by part, the one under way first. `done`: what was done since this was last told."""

    parts: tuple[Part, ...]
    done: Part | None = None


Progress = (
    Message
    | RunBegun
    | NextSeed
    | SeedBegun
    | SeedEnded
    | SearchStarted
    | TrialChanged
    | SearchEnded
    | EpochEnded
    | StageBegun
    | Counted
    | CourseAhead
)


class StopFlag:
    """Set from a signal handler; workflows look at it between steps and end cleanly."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.since = 0.0  # when it was set, by time.monotonic
        self.kept = ""  # what --resume would go on from now, were the process to end at once; "": nothing

    def set(self, signal_number: int) -> None:
        """Ask the run to stop."""
        self.since = time.monotonic()
        self.signal_number = signal_number

    def __bool__(self) -> bool:
        return self.signal_number is not None


def _ignore(_: Progress) -> None:
    return None


@dataclass(frozen=True)
class Context:
    """`directory` None: in memory, nothing is written (the Python face)."""

    directory: RunDirectory | None = None
    emit: Callable[[Progress], None] = _ignore
    stop: StopFlag = field(default_factory=StopFlag)
    resume: bool = False
    gates: tuple[Condition, ...] = ()  # from the command line, beside the file's own
    stages: Path | None = None  # where stage files lie that several runs share; None: each run has its own


class Workflow(Protocol):
    """A module of workflows/ that carries out an experiment: train, tune, prune, distill. Its name is the command's."""

    __name__: str

    def run(self, experiment: Experiment, context: Context) -> Report:
        """Do the work."""

    def dry_run(self, experiment: Experiment, context: Context) -> Report:
        """Check and estimate it."""
