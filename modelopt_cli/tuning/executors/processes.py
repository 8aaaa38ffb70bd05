"""Trials in worker processes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from modelopt_cli.tuning.executors import NO_LIMITS, Executor, Limits, Pool

if TYPE_CHECKING:
    from modelopt_cli.tuning.objective import Objective


@final
class Processes(Executor):
    """Runs trials in worker processes: several at a time; contains crashes, timeouts and memory limits."""

    def open(self, objective: Objective, workers: int = 1, limits: Limits = NO_LIMITS) -> Pool:
        """A pool of up to `workers` processes, started when needed. Raises UsageError for an unpicklable objective."""
        from modelopt_cli.tuning.executors._processes import ProcessPool

        return ProcessPool(objective, workers, limits)
