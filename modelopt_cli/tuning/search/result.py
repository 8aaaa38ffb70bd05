"""How a search ended, and what is to be said of its failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from modelopt_cli.core.errors import SearchError
from modelopt_cli.tuning.trials import ranking
from modelopt_cli.tuning.trials.trial import State, Trial


@dataclass(frozen=True)
class SearchResult:
    """How a search ended: completed | converged | exhausted | timeout | interrupted."""

    reason: str
    seconds: float
    peak_bytes: int
    warnings: list[str] = field(default_factory=list)
    why: str = ""  # converged: by which rule, with its figure


def check_failures(trials: Sequence[Trial]) -> None:
    """Raise SearchError when nothing but failures came out."""
    ended = [trial for trial in trials if trial.state.finished]
    if ended and all(trial.state is State.FAILED for trial in ended):
        raise SearchError(f"every trial failed ({len(ended)} of {len(ended)}). {why_failed(ended)}")


def why_failed(trials: Sequence[Trial]) -> str:
    """The most frequent reasons of failure, counted."""
    reasons = Counter(trial.reason for trial in trials if trial.state is State.FAILED)
    return "Reasons: " + "; ".join(f"{count}x {reason}" for reason, count in reasons.most_common(3))


def remarks(reason: str, trials: Sequence[Trial], restarts: int, compared: bool) -> list[str]:
    """Warnings. `restarts`: how many paused trials lost their state. `compared`: whether reports decide anything."""
    failed = sum(trial.state is State.FAILED for trial in trials)
    warnings = [f"{failed} of {len(trials)} trials failed: {why_failed(trials)}"] if failed else []
    points = [point for trial in trials for point in trial.curve]
    if compared and points and all(point.losses is None for point in points):
        warnings.append(
            "no report of a trial under way holds every objective, so there was nothing to compare trials by before "
            "they ended; search for metrics of the validation split, or leave out stopper and scheduler"
        )
    if restarts:
        warnings.append(f"{restarts} paused trials lost their state and were computed again")
    if reason != "interrupted" and any(trial.state.finished for trial in trials) and not ranking.candidates(trials):
        warnings.append(
            "no trial came to its end, so none is best; --resume with more tuning.trials or time continues the search"
        )
    if reason == "timeout":
        warnings.append("the search ended at tuning.timeout; --resume with a longer one continues it")
    return warnings
