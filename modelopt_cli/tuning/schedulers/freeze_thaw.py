"""Freeze-thaw search: trials are paused early, and the most promising ones are taken up again."""

from __future__ import annotations

from typing import Annotated, final

from pydantic import Field

from modelopt_cli.core.types import Count
from modelopt_cli.tuning.schedulers import Decision, Scheduler, SchedulerContext


@final
class FreezeThaw(Scheduler):
    """Pauses trials early and returns to those whose curves, as predicted, promise most per step (Swersky et al. 2014).

    `tuning.trials` is what it may spend: the steps of so many complete trials, which it divides among many more. Each
    objective and each constraint has a model of its curves; of several objectives the hypervolume is to grow.
    """

    initial_points: Count = Field(8, description="Trials, from the sampler, before curves are predicted.")
    growth: Annotated[float, Field(gt=1.0)] = Field(
        1.5, description="A trial runs until its steps have grown by this factor, then it is weighed again."
    )

    def next(self, context: SchedulerContext) -> list[Decision]:
        """Pause what waits, then give each slot to the most promising trial, paused or new."""
        from modelopt_cli.tuning.schedulers._freeze_thaw import decide

        return decide(self.initial_points, self.growth, context)
