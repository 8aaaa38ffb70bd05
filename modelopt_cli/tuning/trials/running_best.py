"""The best of the trials that have ended, kept without looking at all of them again: what `ranking.best` gives."""

from __future__ import annotations

from modelopt_cli.tuning.trials.indexed import Index
from modelopt_cli.tuning.trials.ranking import Losses
from modelopt_cli.tuning.trials.trial import State, Trial


class RunningBest(Index):
    """See the module docstring. A trial that has ended stays as it is, so the best one is only ever replaced."""

    def __init__(self) -> None:
        self.trial: Trial | None = None
        self._key: tuple[float, Losses, int] | None = None

    def change(self, before: Trial | None, after: Trial) -> None:
        """Feasible before infeasible, then the lowest losses, then the earliest."""
        if after.losses is None or after.state not in (State.COMPLETED, State.STOPPED):
            return
        key = (after.violation, after.losses, after.number)
        if self._key is None or key < self._key:
            self.trial, self._key = after, key
