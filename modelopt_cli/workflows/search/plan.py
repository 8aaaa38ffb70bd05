"""The plan of a search before it runs: what will be tried, where, and what it will cost in time and memory.

A trial's time is measured (estimate.py). A script cannot be run in part, so its time stays unknown until a trial has
ended.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from typing import TYPE_CHECKING, cast

from modelopt_cli.core.strategy import Named
from modelopt_cli.workflows.factory import on_one_gpu
from modelopt_cli.workflows.search.cheap_first import cheap_count
from modelopt_cli.workflows.search.estimate import Measured, choosing, measure
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.tuning.executors import Executor
    from modelopt_cli.tuning.space.space import Space

_WORKER_START = 4.0  # seconds until worker processes have imported what they need


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a search is about to do. Seconds and bytes are estimates, None where nothing can be known beforehand."""

    parameters: int
    space_size: int | None  # None: infinite
    trials: int | None  # None: until the time is up
    sampler: str
    stopper: str | None
    scheduler: str | None
    executor: str
    workers: int
    device: str
    sizes: tuple[int, ...] | None  # of tuning.fidelity, in steps
    samples: tuple[int, ...] | None  # that these sizes have
    cheap: int  # first trials that vary late stages alone (cheap_first.py)
    complete: bool  # only complete trials may be best: others have seen fewer folds, or fewer samples
    trial_seconds: float | None
    seconds: float | None
    bytes: int | None
    allocation_passes: float = 0.0  # over the calibration samples, in a trial, at most; 0: no cuts are tried out
    allocation_seconds: float = 0.0

    def named_executor(self) -> Executor:
        """The executor, with its defaults."""
        return cast("Executor", Named("executors").parse(self.executor))

    def as_dict(self) -> dict[str, object]:
        """Plain values, for the report."""
        values = dataclasses.asdict(self)
        if not self.allocation_passes:
            del values["allocation_passes"], values["allocation_seconds"]
        return {**values, "estimated_seconds": values.pop("seconds"), "estimated_bytes": values.pop("bytes")}


def make_plan(experiment: Experiment, space: Space) -> Plan:
    """Probe, choose the executor where the file leaves it open, and estimate."""
    settings = experiment.require_tuning()
    size = None if math.isinf(space.size) else int(space.size)
    trials = planned_trials(experiment, space)
    device = "none" if settings.workflow == "command" else _device(experiment)
    measured = Measured(None) if settings.workflow == "command" else measure(experiment, space)
    passes, choosing_seconds = (0.0, 0.0) if settings.workflow == "command" else choosing(experiment, space)
    trial_seconds = None if measured.seconds is None else measured.seconds + choosing_seconds
    measured = dataclasses.replace(measured, seconds=trial_seconds)
    name, workers = _executor(experiment, trials, measured, device)
    suggestion = _suggestion_seconds(experiment, space, trials or 50)
    seconds = None
    if trial_seconds is not None and trials is not None:
        spread = trials * trial_seconds / workers
        seconds = spread + trials * suggestion + (_WORKER_START if name == "processes" else 0.0)
        seconds += trial_seconds if refits(experiment) else 0.0
    resident = resident_bytes()
    sizes = None if settings.fidelity is None else settings.fidelity.sizes
    return Plan(
        parameters=len(space.parameters),
        space_size=size,
        trials=trials,
        sampler=settings.sampler.name(),
        stopper=settings.stopper.name() if settings.stopper else None,
        scheduler=settings.scheduler.name() if settings.scheduler else None,
        executor=name,
        workers=workers,
        device=device,
        sizes=sizes,
        samples=None if sizes is None else tuple(data_cache.training_samples(experiment, size) for size in sizes),
        cheap=cheap_count(experiment, space, trials),
        complete=sizes is not None or experiment.evaluation.cv is not None,
        trial_seconds=trial_seconds,
        seconds=seconds,
        bytes=resident * (1 + workers) if name == "processes" else resident,
        allocation_passes=passes,
        allocation_seconds=choosing_seconds,
    )


def _on_gpus(experiment: Experiment, device: str) -> int:
    """Trials at a time: one a GPU, where each worker can have its own."""
    from modelopt_cli.core.device import visible_gpus

    return max(1, len(visible_gpus())) if on_one_gpu(experiment) and ":" not in device else 1


def planned_trials(experiment: Experiment, space: Space) -> int | None:
    """How many trials the search will run: what the file says, at most the size of a finite space."""
    settings = experiment.require_tuning()
    if settings.repeats or settings.scheduler is not None or math.isinf(space.size):
        return settings.trials  # (a scheduler shares out the steps of so many)
    # The file's own values may lie outside the space, as may enqueued ones; they come on top.
    size = int(space.size)
    return size if settings.trials is None else min(settings.trials, size + len(settings.initial) + 1)


def resident_bytes() -> int:
    """Memory that this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def _device(experiment: Experiment) -> str:
    from modelopt_cli.core.device import choose

    return choose(experiment.device) if experiment.require_model().framework == "torch" else "cpu"


def refits(experiment: Experiment) -> bool:
    """Whether the best setting is trained once more in the end, on all it may see."""
    settings = experiment.require_tuning()
    if settings.workflow == "command":
        return False
    framework = experiment.require_model().framework
    return framework == "sklearn" or experiment.evaluation.cv is not None or settings.refit is not None


def _executor(experiment: Experiment, trials: int | None, measured: Measured, device: str) -> tuple[str, int]:
    """The file's choice; else worker processes where they save more time than they take to start."""
    settings = experiment.require_tuning()
    cores = os.cpu_count() or 1
    if settings.executor != "auto":
        return settings.executor.name(), settings.executor.places(settings.workers, cores)
    if settings.workflow == "command" or settings.trial_timeout or settings.trial_memory or measured.unsafe:
        return "processes", settings.workers or (1 if settings.workflow == "command" else cores)
    workers = settings.workers or (_on_gpus(experiment, device) if device.startswith("cuda") else cores)
    if settings.workers is None and trials is not None and measured.seconds is not None:
        saved = trials * measured.seconds * (1 - 1 / workers)
        workers = workers if saved > 2 * _WORKER_START else 1
    return ("processes", workers) if workers > 1 else ("serial", 1)


def _suggestion_seconds(experiment: Experiment, space: Space, trials: int) -> float:
    """Mean time of a suggestion: measured once, on an invented history of half the length."""
    import numpy as np

    from modelopt_cli.tuning.trials.trial import State, Trial

    rng = np.random.default_rng(0)
    history = [
        Trial(number=number, params=space.sample(rng), seed=0, state=State.COMPLETED, losses=(float(rng.random()),))
        for number in range(min(trials // 2, 200))
    ]
    start = time.perf_counter()
    experiment.require_tuning().sampler.suggest(space, history, rng, 1)
    return time.perf_counter() - start
