"""Hyperband: successive halving in several brackets, which stop early or late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, final

from pydantic import Field
from typing_extensions import override

from modelopt_cli.core.types import Count
from modelopt_cli.tuning.stoppers import Stopper
from modelopt_cli.tuning.stoppers._rungs import Reached, at_rung, beaten, crossed
from modelopt_cli.tuning.trials.indexed import derived

if TYPE_CHECKING:
    from modelopt_cli.core.conditions import Goal
    from modelopt_cli.tuning.trials.trial import Trial


@final
class Hyperband(Stopper):
    """Hyperband (Li et al., JMLR 2018, section 3), with asynchronous brackets (Li et al., MLSys 2020, section 3.3).

    Bracket b begins to stop at min_steps * factor^b. Trials are dealt to brackets by their number, in the proportions
    that give all brackets about the same number of steps, and are compared within their own.
    """

    min_steps: Count = Field(1, description="Steps before a trial of the first bracket may be stopped.")
    factor: Annotated[int, Field(ge=2)] = Field(3, description="One in so many goes on, and rungs lie so far apart.")
    brackets: Count = Field(3, description="How many brackets; 1 is asha.")

    def decide(self, trial: Trial, trials: Sequence[Trial]) -> str | None:
        """As asha does, among the trials of the same bracket."""
        return self.reason(trial, trials, ())

    @override
    def reason(self, trial: Trial, trials: Sequence[Trial], goals: Sequence[Goal]) -> str | None:
        """As `decide`, of `goals` where they are given, else of losses."""
        bracket = self.bracket(trial.number)
        rung = crossed(trial, self.min_steps * self.factor**bracket, self.factor)
        own = None if rung is None else at_rung(trial, rung)
        if rung is None or own is None:
            return None
        reached = derived(trials, _ReachedInBracket, rung, self, bracket)
        if reached.goes_on(own, self.factor):
            return None
        best, of = max(1, len(reached) // self.factor), f"{len(reached)} trials of bracket {bracket}"
        return beaten(own, best, of, rung, goals)

    def bracket(self, number: int) -> int:
        """The bracket of a trial: bracket b of B gets factor^(B - 1 - b) B / (B - b), rounded up, in each turn."""
        shares = [
            -(-self.brackets * self.factor ** (self.brackets - 1 - b) // (self.brackets - b))
            for b in range(self.brackets)
        ]
        offset = number % sum(shares)
        for b, share in enumerate(shares):
            if offset < share:
                return b
            offset -= share
        return self.brackets - 1


class _ReachedInBracket(Reached):
    """The losses at a rung of the trials of one bracket."""

    def __init__(self, rung: int, hyperband: Hyperband, bracket: int) -> None:
        super().__init__(rung)
        self._hyperband, self._bracket = hyperband, bracket

    @override
    def counts(self, trial: Trial) -> bool:
        return self._hyperband.bracket(trial.number) == self._bracket
