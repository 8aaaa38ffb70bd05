"""Everything is pruned at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from modelopt_cli.pruning.schedules import PruningSchedule, Stage


@final
class OneShot(PruningSchedule):
    """Prune once, then recover."""

    def stages(self, amount: float | None) -> Sequence[Stage]:
        """One stage, with the whole amount at its start."""
        return [Stage(((0.0, 1.0 if amount is None else amount),))]
