"""The front of trials that end one after another, kept without looking at all of them again.

What it holds is what `ranking.front` gives of the same trials: those that no other one is better than, by constrained
domination. It knows points by keys of the caller's own (numbers of trials, their seeds), so that a worker process can
keep one of what it has computed itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from modelopt_cli.tuning.trials.ranking import Losses, dominates
from modelopt_cli.tuning.trials.trial import State, Trial


class RunningFront:
    """Points by key; see the module docstring."""

    def __init__(self) -> None:
        self._violation = 0.0  # of all that are on it
        self._points: dict[int, Losses] = {}

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> RunningFront:
        """Of trials by their numbers."""
        front = cls()
        for trial in trials:
            front.add_trial(trial)
        return front

    @property
    def keys(self) -> list[int]:
        """Of those that are on it, in order."""
        return sorted(self._points)

    def __contains__(self, key: int) -> bool:
        return key in self._points

    def add_trial(self, trial: Trial) -> list[int]:
        """`add` for a trial that has ended, by its number; one that failed, or counts for nothing, is left out."""
        if trial.losses is None or trial.state not in (State.COMPLETED, State.STOPPED):
            return [trial.number]
        return self.add(trial.number, trial.losses, trial.violation)

    def add(self, key: int, losses: Losses, violation: float = 0.0) -> list[int]:
        """Take a point: the keys of those that are not on the front now, the point itself where it did not come on it.

        Equal points do not beat each other.
        """
        if self._points and violation > self._violation:
            return [key]
        if self._points and violation < self._violation:
            left = self.keys
            self._points.clear()
        else:
            if any(dominates(other, losses) for other in self._points.values()):
                return [key]
            left = [other for other, own in self._points.items() if dominates(losses, own)]
            for other in left:
                del self._points[other]
        self._violation = violation
        self._points[key] = losses
        return left
