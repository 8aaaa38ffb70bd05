"""Trials one after another, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, final

from modelopt_cli.core.errors import UsageError
from modelopt_cli.tuning.executors import NO_LIMITS, Executor, Limits, Pool

if TYPE_CHECKING:
    from modelopt_cli.tuning.objective import Objective


@final
class Serial(Executor):
    """Runs trials one after another in this process: no start-up cost; contains exceptions, not crashes."""

    def problem(self, limits: Limits) -> str | None:
        """A memory limit needs a process of its own."""
        if limits.bytes is None:
            return None
        return "tuning.trial_memory needs worker processes; set tuning.executor: processes, or remove it"

    def places(self, workers: int | None, cores: int) -> int:
        """One."""
        return 1

    def open(
        self, objective: Objective, workers: int = 1, limits: Limits = NO_LIMITS, folder: Path | None = None
    ) -> Pool:
        """A pool of one slot. Raises UsageError for a memory limit."""
        problem = self.problem(limits)
        if problem is not None:
            raise UsageError(problem)
        from modelopt_cli.tuning.executors._serial import SerialPool

        return SerialPool(objective, limits, folder)
