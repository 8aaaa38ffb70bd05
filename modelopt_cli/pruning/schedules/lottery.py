"""Lottery tickets: prune, go back to early weights, train again, repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, final

from pydantic import Field

from modelopt_cli.core.types import Count
from modelopt_cli.pruning.schedules import PruningSchedule, Stage
from modelopt_cli.pruning.schedules._levels import levels


@final
class Lottery(PruningSchedule):
    """Prune the trained model, rewind what stays, train it again, repeat (Frankle and Carbin, ICLR 2019).

    Training is the `training:` section's, with the same data order each time; there is no recovery section.
    """

    rounds: Count = Field(5, description="How often.")
    rewind: Annotated[int, Field(ge=0)] = Field(
        0, description="The epoch to go back to; 0: the initial weights (later: Frankle et al., ICML 2020)."
    )
    shape: Literal["geometric", "linear"] = Field(
        "geometric", description="geometric: the same share of what is left each round; linear: the same number."
    )

    def stages(self, amount: float | None) -> Sequence[Stage]:
        """A stage a round, each with a rewind."""
        return [Stage(((0.0, level),), self.rewind) for level in levels(amount, self.rounds, self.shape)]
