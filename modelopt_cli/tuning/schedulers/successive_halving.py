"""Successive halving: all trials of a rung are compared, and the best go on."""

from __future__ import annotations

from typing import Annotated, final

from pydantic import Field

from modelopt_cli.core.types import Count
from modelopt_cli.tuning.schedulers import Decision, Scheduler, SchedulerContext


@final
class SuccessiveHalving(Scheduler):
    """Successive halving (Jamieson & Talwalkar, AISTATS 2016), synchronous: trials pause at a rung until all are there.

    The best 1 / factor go on from where they are. `tuning.trials` is what it may spend: the steps of so many complete
    trials. One bracket after the other.
    """

    min_steps: Count = Field(1, description="Steps of the first rung.")
    factor: Annotated[int, Field(ge=2)] = Field(3, description="One in so many goes on, and rungs lie so far apart.")

    def next(self, context: SchedulerContext) -> list[Decision]:
        """See the class."""
        from modelopt_cli.tuning.schedulers import _brackets

        total = context.total or self.min_steps
        bracket = _brackets.halving(self.min_steps, self.factor, total, context.sizes)
        return _brackets.decide(context, _brackets.repeated(bracket))
