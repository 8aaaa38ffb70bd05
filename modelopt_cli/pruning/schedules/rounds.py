"""Prune a part, recover, repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self, final

from pydantic import Field, model_validator

from modelopt_cli.core.types import Count, Items
from modelopt_cli.pruning.schedules import PruningSchedule, Stage
from modelopt_cli.pruning.schedules._levels import levels

Level = Annotated[float, Field(gt=0.0, lt=1.0)]


@final
class Rounds(PruningSchedule):
    """Prune a part, recover, repeat (Han et al., NeurIPS 2015); every round recovers for recovery.epochs."""

    rounds: Count = Field(5, description="How often.")
    shape: Literal["geometric", "linear"] = Field(
        "geometric", description="geometric: the same share of what is left each round; linear: the same number."
    )
    amounts: Items[Level] | None = Field(
        None, description="Shares gone after each round before the last, ascending; in place of rounds and shape."
    )

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.amounts is not None and list(self.amounts) != sorted(set(self.amounts)):
            raise ValueError(f"amounts are {list(self.amounts)}, but must ascend, e.g. [0.5, 0.8]")
        return self

    def stages(self, amount: float | None) -> Sequence[Stage]:
        """A stage a round. Amounts at or above the last one are left out."""
        if self.amounts is not None and amount is not None:
            chosen = [*(level for level in self.amounts if level < amount), amount]
        else:
            chosen = levels(amount, self.rounds, self.shape)
        return [Stage(((0.0, level),)) for level in chosen]
