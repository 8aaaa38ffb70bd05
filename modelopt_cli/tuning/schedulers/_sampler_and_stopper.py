"""The scheduler of a search that names none: the sampler starts trials, the stopper may end them."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from modelopt_cli.tuning.schedulers import Decision, Resume, Scheduler, SchedulerContext, Start, Stop
from modelopt_cli.tuning.stoppers import Stopper

if TYPE_CHECKING:
    from modelopt_cli.tuning.trials.trial import Trial


@final
class SamplerAndStopper(Scheduler):
    """The study's sampler starts trials, the stopper is asked after every report; without one they run in one go."""

    stopper: Stopper | None = None

    def next(self, context: SchedulerContext) -> list[Decision]:
        """Stop or resume what waits; fill the free slots with trials that were paused, then with new ones."""
        decisions = [self._decide(context.trials[number], context) for number in context.waiting]
        until = None if self.stopper is None else 1
        slots = context.slots
        for trial in context.paused[:slots]:
            decisions.append(Resume(trial.number, None if self.stopper is None else trial.step + 1))
            slots -= 1
        return [*decisions, *(Start(until) for _ in range(min(slots, context.left)))]

    def _decide(self, trial: Trial, context: SchedulerContext) -> Decision:
        reason = self.stopper.reason(trial, context.trials, context.goals) if self.stopper is not None else None
        if reason is not None:
            return Stop(trial.number, reason)
        return Resume(trial.number, trial.step + 1)
