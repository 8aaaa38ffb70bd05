"""Loggers: programs that people look at their runs in. One file each; a logger hands a run's records to its package.

A logger's session lives in a process of its own (deliveries/), which nothing that it does or suffers can leave: its
warnings, its output, its threads, a server that does not answer. So a session may block, print and raise.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from modelopt_cli.core.errors import MissingExtraError
from modelopt_cli.core.strategy import Strategy
from modelopt_cli.core.types import Positive

__all__ = ["OWN", "Begun", "Ended", "Location", "Logger", "Points", "Session", "Setting", "Status", "without"]

Setting = str | int | float | bool | None
Status = Literal["completed", "stopped", "failed", "interrupted"]
"""How a run ended; `stopped`: a trial that a stopper or scheduler ended early, which counts."""

OWN = ""
"""What the run itself is called in records; its children (trials, seeds) have names, such as `trial-7`."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A run, or a child of it, begins; or goes on, where an earlier process began it."""

    run: str
    settings: Mapping[str, Setting] = field(default_factory=dict)  # dotted path -> value
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Points:
    """What a run measured: (step, metric -> value), steps in rising order. Values may be nan or infinite."""

    run: str
    points: Sequence[tuple[int, Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class Ended:
    """A run, or a child, ends for now. `interrupted`: it may go on later, in another process."""

    run: str
    status: Status
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)  # what it came to; never the name of a point's metric
    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)  # what -> path: the report, the model


@dataclass(frozen=True, slots=True)
class Location:
    """Where a run is, for those who write beside it."""

    name: str  # the experiment's
    title: str  # the run's, such as digits/3
    folder: Path | None = None  # the run's; None: it is in memory
    root: Path | None = None  # where all runs lie


class Session(ABC):
    """A logger at work on one run and its children, from one process. Each method may raise; what it raises is told."""

    where: str = ""  # how to look at what is logged: a command or an address

    @abstractmethod
    def begin(self, begun: Begun, known: str | None) -> str:
        """Begin a run (the run itself first), or go on with the one that an earlier process knew as `known`.

        Gives what the package knows it by, for a later process.
        """

    @abstractmethod
    def log(self, points: Points) -> None:
        """Measured values of a run that has begun."""

    @abstractmethod
    def end(self, ended: Ended) -> None:
        """A run that has begun ends. The run itself ends last."""

    @abstractmethod
    def close(self) -> None:
        """Hand over what is still held back."""


class Logger(Strategy):
    """A logger of the file. Its options say where to; a package's environment variables only say who one is."""

    family = "loggers"
    package: ClassVar[str] = ""
    """What is imported; "": nothing that may be missing."""

    wait: Positive = Field(
        30.0, description="Seconds without an answer after which the end of a run waits no longer for it."
    )

    def check(self) -> None:
        """Raise MissingExtraError when the package is not there; nothing is imported."""
        if self.package and importlib.util.find_spec(self.package) is None:
            raise MissingExtraError(self.package, self.extra or self.package)

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """The environment of the logger's process, made of this one's: without what would overrule the file."""
        return dict(variables)

    @abstractmethod
    def open(self, location: Location) -> Session:
        """Begin to log a run. Called in the logger's own process; imports the package."""


def without(variables: Mapping[str, str], prefix: str, kept: Iterable[str]) -> dict[str, str]:
    """Environment variables but for those that begin with `prefix`; the ones that are `kept` stay."""
    stays = set(kept)
    return {name: value for name, value in variables.items() if not name.startswith(prefix) or name in stays}
