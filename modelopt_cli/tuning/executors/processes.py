"""Trials in worker processes of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, final

from pydantic import AfterValidator, Field

from modelopt_cli.core.types import Positive, whole_or_part
from modelopt_cli.tuning.executors import NO_LIMITS, Executor, Limits, Pool
from modelopt_cli.tuning.executors._gpus import gpu_places

if TYPE_CHECKING:
    from modelopt_cli.tuning.objective import Objective


@final
class Processes(Executor):
    """Runs trials in worker processes: several at a time; contains crashes, timeouts and memory limits."""

    gpus_per_trial: Annotated[Positive, AfterValidator(whole_or_part)] | None = Field(
        None,
        description="GPUs that one trial has to itself; 0.5: two trials share one. More workers than that wait. "
        "null: each worker process sees one of the GPUs, and more workers than GPUs share them.",
    )

    def device_problem(self, device: str) -> str | None:
        """Where trials have GPUs of their own, each sees its own as the first."""
        if self.gpus_per_trial is None or device == "auto" or device == "cuda":
            return None
        return (
            f"device is {device}, but each trial is given GPUs of its own (tuning.executor.gpus_per_trial is "
            f"{self.gpus_per_trial:g}); set device: cuda or auto, or leave out gpus_per_trial"
        )

    def places(self, workers: int | None, cores: int) -> int:
        """So many as are asked for, at most as many as have GPUs where a trial takes some; else one a core."""
        if self.gpus_per_trial is None:
            return workers or cores
        room = len(gpu_places(self.gpus_per_trial, "cuda"))
        return min(workers or room, room)

    def open(
        self, objective: Objective, workers: int = 1, limits: Limits = NO_LIMITS, folder: Path | None = None
    ) -> Pool:
        """A pool of up to `workers` processes, started when needed. Raises UsageError for an unpicklable objective,
        and for more GPUs than there are.
        """
        from modelopt_cli.tuning.executors._paused_states import IN_BYTES, PausedStates
        from modelopt_cli.tuning.executors._processes import ProcessPool, pickled_objective

        states = PausedStates(IN_BYTES, folder=folder)
        gpus = gpu_places(self.gpus_per_trial, objective.device)
        workers = workers if self.gpus_per_trial is None else min(workers, len(gpus))
        pickled = pickled_objective(objective, "worker processes")
        return ProcessPool(pickled, workers, limits, states=states, gpus=gpus)
