"""The one-cycle policy."""

from __future__ import annotations

import math
from typing import Annotated, Literal, final

from pydantic import Field

from modelopt_cli.core.types import Fraction
from modelopt_cli.training.schedules import LearningRateSchedule

AtLeastOne = Annotated[float, Field(ge=1.0)]


@final
class OneCycle(LearningRateSchedule):
    """One cycle: up to the optimizer's learning rate, then down far below the start (Smith and Topin, 2018).

    The values are those of torch.optim.lr_scheduler.OneCycleLR with `max_lr` = the optimizer's `lr` and
    `cycle_momentum=False`: momentum stays as the optimizer has it, because a schedule is about the learning rate alone.
    """

    pct_start: Fraction = Field(0.3, description="Share of the steps in which the rate rises.")
    anneal_strategy: Literal["cos", "linear"] = Field("cos", description="Form of the rise and the fall.")
    div_factor: AtLeastOne = Field(25.0, description="The first rate is lr / div_factor.")
    final_div_factor: AtLeastOne = Field(1e4, description="The last rate is the first one / final_div_factor.")
    three_phase: bool = Field(False, description="Fall to the first rate as long as it rose, only then to the last.")

    def factor(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """See the base class."""
        start = 0.0
        for end, first, last in self._phases(steps):
            if step <= end or end >= steps - 1:
                share = (step - start) / (end - start) if end > start else 1.0
                return self._between(first, last, min(max(share, 0.0), 1.0))
            start = end
        return 1.0 / self.div_factor / self.final_div_factor

    def _phases(self, steps: int) -> list[tuple[float, float, float]]:
        """(last step, factor at its start, factor at its end) of each phase; steps need not be whole, as in torch."""
        first = 1.0 / self.div_factor
        last = first / self.final_div_factor
        rise = self.pct_start * steps - 1.0
        if self.three_phase:
            return [(rise, first, 1.0), (2.0 * rise, 1.0, first), (steps - 1.0, first, last)]
        return [(rise, first, 1.0), (steps - 1.0, 1.0, last)]

    def _between(self, first: float, last: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return first + (last - first) * share
        return last + (first - last) / 2.0 * (1.0 + math.cos(math.pi * share))
