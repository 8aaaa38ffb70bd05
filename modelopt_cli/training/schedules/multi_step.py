"""Steps down at given epochs."""

from __future__ import annotations

from bisect import bisect_right
from typing import final

from pydantic import Field, field_validator

from modelopt_cli.core.types import Count, Items, Positive
from modelopt_cli.training.schedules import LearningRateSchedule


@final
class MultiStep(LearningRateSchedule):
    """Multi-step: multiply by `gamma` after each of the `milestones`."""

    milestones: Items[Count] = Field(..., min_length=1, description="Epochs after which the rate changes, rising.")
    gamma: Positive = Field(0.1, description="What the rate is multiplied by.")

    @field_validator("milestones")
    @classmethod
    def _rising(cls, milestones: tuple[int, ...]) -> tuple[int, ...]:
        if list(milestones) != sorted(set(milestones)):
            raise ValueError(f"{list(milestones)} does not rise; write each epoch once, in order")
        return milestones

    def remarks(self, epochs: int) -> list[str]:
        """See the base class."""
        late = [str(milestone) for milestone in self.milestones if milestone >= epochs]
        return [
            f"training.schedule multi_step has milestones that a training of {epochs} epochs never comes to: "
            f"{', '.join(late)}"
        ] * bool(late)

    def factor(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """See the base class."""
        return self.gamma ** bisect_right(self.milestones, step // steps_per_epoch)
