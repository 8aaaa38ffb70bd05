"""Asynchronous successive halving."""

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
class Asha(Stopper):
    """Asynchronous successive halving (Li et al., MLSys 2020, section 3), in the form that stops trials at rungs.

    At step min_steps * factor^k a trial goes on when it is among the best 1 / factor of all that have come so far.
    """

    min_steps: Count = Field(1, description="Steps before a trial may be stopped: the first rung.")
    factor: Annotated[int, Field(ge=2)] = Field(3, description="One in so many goes on, and rungs lie so far apart.")

    def decide(self, trial: Trial, trials: Sequence[Trial]) -> str | None:
        """Compares trials at the rung alone; with several objectives by non-domination."""
        return self.reason(trial, trials, ())

    @override
    def reason(self, trial: Trial, trials: Sequence[Trial], goals: Sequence[Goal]) -> str | None:
        """As `decide`, of `goals` where they are given, else of losses."""
        rung = crossed(trial, self.min_steps, self.factor)
        own = None if rung is None else at_rung(trial, rung)
        if rung is None or own is None:
            return None
        reached = derived(trials, Reached, rung)
        if reached.goes_on(own, self.factor):
            return None
        return beaten(own, max(1, len(reached) // self.factor), f"{len(reached)} trials", rung, goals)
