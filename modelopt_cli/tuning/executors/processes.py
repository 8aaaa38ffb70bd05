"""Trials in worker processes of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, final

from modelopt_cli.tuning.executors import NO_LIMITS, Executor, Limits, Pool

if TYPE_CHECKING:
    from modelopt_cli.tuning.objective import Objective


@final
class Processes(Executor):
    """Runs trials in worker processes: several at a time; contains crashes, timeouts and memory limits."""

    def places(self, workers: int | None, cores: int) -> int:
        """So many as are asked for, else one a core."""
        return workers or cores

    def open(
        self, objective: Objective, workers: int = 1, limits: Limits = NO_LIMITS, folder: Path | None = None
    ) -> Pool:
        """A pool of up to `workers` processes, started when needed. Raises UsageError for an unpicklable objective."""
        from modelopt_cli.tuning.executors._paused_states import IN_BYTES, PausedStates
        from modelopt_cli.tuning.executors._processes import ProcessPool, pickled_objective

        states = PausedStates(IN_BYTES, folder=folder)
        return ProcessPool(pickled_objective(objective, "worker processes"), workers, limits, states=states)
