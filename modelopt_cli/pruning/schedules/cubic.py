"""Gradual pruning while training goes on, fast at first, then ever slower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self, final

from pydantic import Field, model_validator

from modelopt_cli.core.types import Count, Fraction
from modelopt_cli.pruning.schedules import PruningSchedule, Stage


@final
class Cubic(PruningSchedule):
    """Gradually, during one recovery: fast at first, then ever slower (Zhu and Gupta 2017, eq. 1)."""

    rounds: Count = Field(20, description="Prunings, evenly spaced from `start` to `end`.")
    start: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(0.0, description="Share of recovery's steps before them.")
    end: Fraction = Field(0.7, description="Share of recovery's steps after which the last one is done.")
    initial: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(0.0, description="Share that is gone from the beginning.")

    @model_validator(mode="after")
    def _start_before_end(self) -> Self:
        if self.start > self.end:
            raise ValueError(f"start is {self.start:g}, but must not be after end ({self.end:g})")
        return self

    def stages(self, amount: float | None) -> Sequence[Stage]:
        """One stage; after the k-th of n prunings s = amount + (initial - amount) (1 - k / n)^3 is gone."""
        marks = [(0.0, 0.0 if amount is None else min(self.initial, amount))]
        for number in range(1, self.rounds + 1):
            part = number / self.rounds
            when = self.start + (self.end - self.start) * (number - 1) / max(self.rounds - 1, 1)
            share = 1.0 if amount is None else amount + (min(self.initial, amount) - amount) * (1.0 - part) ** 3
            marks.append((when, share))
        return [Stage(tuple(marks))]
