"""Every error that modelopt raises on purpose, and the exit code each one ends with.

    ModeloptError                 1   a run failed
    ├── UsageError                2   wrong arguments, an unusable experiment file or input
    │   ├── ExperimentError       2   ... with file, line, column and the line itself
    │   ├── InputError            2   data or a checkpoint that cannot be read as what it should be
    │   └── MissingExtraError     2   an optional dependency is not installed; names the extra
    ├── TrialError                1   one trial failed: `kind` says how; contained by the search
    ├── ReplayError               1   a run's log asked again gives something else than it holds
    ├── GateError                 3   a gate was not met
    ├── UnmetError                3   nothing that there is meets the conditions it was to be chosen by
    ├── SearchError               4   every trial failed, or `max_failures` in a row
    ├── RefusedError              5   an input that would run code, or asks for memory it does not hold
    ├── StorageError              6   disk full, not writable, directory in use, store damaged
    └── InterruptedRunError     130   stopped by a signal (143 for SIGTERM); resumable

A message gives the value, the rule and the remedy. The CLI prints it and exits with `exit_code`.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

FailureKind = Literal["nan", "memory", "crash", "timeout", "error"]


class ModeloptError(Exception):
    """Base of all errors that are reported to the user without a traceback."""

    exit_code = 1
    after_report = False
    """True when the report, which says the same, has been shown before the error is raised."""


class UsageError(ModeloptError):
    """The command, the experiment file or an input cannot be used as it stands."""

    exit_code = 2


class ExperimentError(UsageError):
    """A problem in an experiment file; the message starts with file:line:column where known."""


class InputError(UsageError):
    """Data or a checkpoint that is missing, truncated, or not what it should be."""


class MissingExtraError(UsageError):
    """An optional dependency is absent."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'modelopt-cli[{extra}]'")


class TrialError(ModeloptError):
    """One trial failed. `kind` classifies the failure, so that a search can learn from it."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind: FailureKind = kind
        self.reason = reason

    def __reduce__(self) -> tuple[type[TrialError], tuple[FailureKind, str]]:
        return TrialError, (self.kind, self.reason)


class ReplayError(ModeloptError):
    """A suggestion or a decision in a run's log does not come out again."""

    after_report = True


class GateError(ModeloptError):
    """At least one gate was not met."""

    exit_code = 3
    after_report = True


class UnmetError(ModeloptError):
    """Nothing that there is meets the conditions by which it was to be chosen; the message says what comes nearest."""

    exit_code = 3


class SearchError(ModeloptError):
    """The search ended without a single usable trial, or too many failed in a row."""

    exit_code = 4


class RefusedError(ModeloptError):
    """An input that would run code when read, or that asks for memory it does not hold."""

    exit_code = 5


class StorageError(ModeloptError):
    """A file or directory cannot be written, is in use, or is damaged."""

    exit_code = 6


class InterruptedRunError(ModeloptError):
    """The user or the system asked the run to stop; what was finished is kept."""

    exit_code = 130
    after_report = True

    def __init__(self, message: str, signal_number: int = 2) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """` Did you mean 'x'?` when some option is near to `word`, else an empty string."""
    near = get_close_matches(word, list(options), n=1, cutoff=0.55)
    return f" Did you mean '{near[0]}'?" if near else ""
