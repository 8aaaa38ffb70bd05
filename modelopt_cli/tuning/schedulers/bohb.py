"""BOHB: Hyperband whose new settings come from Parzen estimators of the longest trials."""

from __future__ import annotations

from typing import Annotated, final

from pydantic import Field

from modelopt_cli.core.types import Count
from modelopt_cli.tuning.schedulers import Decision, Scheduler, SchedulerContext


@final
class Bohb(Scheduler):
    """BOHB (Falkner et al., ICML 2018): Hyperband's brackets, with settings by a multivariate Parzen estimator.

    It is fitted to the losses at the highest rung that enough trials have reached. `tuning.trials` is what it may
    spend: the steps of so many complete trials. The sampler gives the first settings, and the random ones, but for
    those that are drawn from a prior.
    """

    min_steps: Count = Field(1, description="Steps of the first rung of the longest bracket.")
    factor: Annotated[int, Field(ge=2)] = Field(3, description="One in so many goes on, and rungs lie so far apart.")
    random_share: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        1 / 3, description="Share of the settings that come from the sampler, whatever was learnt."
    )

    def next(self, context: SchedulerContext) -> list[Decision]:
        """See the class."""
        from modelopt_cli.tuning.schedulers import _brackets
        from modelopt_cli.tuning.schedulers._highest_rung import Suggestions

        longest = _brackets.halving(self.min_steps, self.factor, context.total or self.min_steps, context.sizes)
        suggestions = Suggestions(context, longest.rungs, self.random_share)
        return _brackets.decide(context, _brackets.cycled(longest), suggestions)
