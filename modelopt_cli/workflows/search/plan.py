"""The plan of a search before it runs: what will be tried, where, and what it will cost in time and memory.

A trial's time is measured (estimate.py). A script cannot be run in part, so its time stays unknown until a trial has
ended.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from modelopt_cli.core.device import usable_cores
from modelopt_cli.core.strategy import Named
from modelopt_cli.tuning.search.automatic import Choice, Workload, choose_scheduler, choose_stopper, ending_advice
from modelopt_cli.tuning.search.automatic_executor import WORKER_START, Machine, choose_executor, executor_advice
from modelopt_cli.workflows.factory import on_one_gpu
from modelopt_cli.workflows.search.cheap_first import cheap_count
from modelopt_cli.workflows.search.estimate import Measured, choosing, measure
from modelopt_cli.workflows.search.taken import Taken, reason_of, taken, with_taken
from modelopt_cli.workflows.search.workload import workload_of
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.tuning.executors import Executor
    from modelopt_cli.tuning.search.settings import TuningSettings
    from modelopt_cli.tuning.space.space import Space


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
    auto: Mapping[str, Taken] = dataclasses.field(default_factory=dict)  # what was taken where the file says auto
    advice: tuple[str, ...] = ()  # what the rules of auto would do otherwise than the file

    def named_executor(self) -> Executor:
        """The executor, with its defaults."""
        return cast("Executor", Named("executors").parse(self.executor))

    def reasons(self) -> list[str]:
        """What was taken for `auto`, and why, an option a line."""
        return [f"{option}: {reason_of(each)}" for option, each in self.auto.items()]

    def as_dict(self) -> dict[str, object]:
        """Plain values, for the report."""
        values = dataclasses.asdict(self)
        if not self.allocation_passes:
            del values["allocation_passes"], values["allocation_seconds"]
        for name in ("auto", "advice"):
            if not values[name]:
                del values[name]
        return {**values, "estimated_seconds": values.pop("seconds"), "estimated_bytes": values.pop("bytes")}


def make_plan(experiment: Experiment, space: Space, before: Mapping[str, Taken] | None = None) -> Plan:
    """Probe, choose what the file leaves open, and estimate. `before`: what the search took when it began."""
    size = None if math.isinf(space.size) else int(space.size)
    settings = experiment.require_tuning()
    device = "none" if settings.workflow == "command" else _device(experiment)
    measured = Measured(None) if settings.workflow == "command" else measure(experiment, space)
    passes, choosing_seconds = (0.0, 0.0) if settings.workflow == "command" else choosing(experiment, space)
    trial_seconds = None if measured.seconds is None else measured.seconds + choosing_seconds
    measured = dataclasses.replace(measured, seconds=trial_seconds)
    trials = planned_trials(experiment, space)
    best_place = _executor(experiment, trials, measured, device)
    name, workers = best_place.value or "serial", best_place.workers
    if settings.executor != "auto":
        name, workers = settings.executor.name(), settings.executor.places(settings.workers, usable_cores())
    workload = workload_of(experiment, space, trials=trials, seconds=trial_seconds, workers=workers)
    auto = {**_endings(settings, workload), **(before or {})}
    advised = [] if before else _advice(settings, workload, best_place)
    if settings.executor == "auto":
        auto["executor"] = taken("executor", best_place)
    experiment = with_taken(experiment, auto)
    settings, trials = experiment.require_tuning(), planned_trials(experiment, space)
    suggestion = _suggestion_seconds(experiment, space, trials or 50)
    seconds = None
    if trial_seconds is not None and trials is not None:
        spread = trials * trial_seconds / workers
        seconds = spread + trials * suggestion + (WORKER_START if name == "processes" else 0.0)
        seconds += trial_seconds if refits(experiment) else 0.0
    resident = resident_bytes()
    sizes = None if settings.fidelity is None else settings.fidelity.sizes
    return Plan(
        parameters=len(space.parameters),
        space_size=size,
        trials=trials,
        sampler=settings.sampler.name(),
        stopper=settings.named_stopper.name() if settings.named_stopper else None,
        scheduler=settings.named_scheduler.name() if settings.named_scheduler else None,
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
        auto=auto,
        advice=tuple(advised),
    )


def _endings(settings: TuningSettings, workload: Workload) -> dict[str, Taken]:
    """The scheduler and the stopper, where the file leaves them open."""
    auto: dict[str, Taken] = {}
    scheduler = choose_scheduler(workload) if settings.scheduler == "auto" else None
    if scheduler is not None:
        auto["scheduler"] = taken("scheduler", scheduler)
    if settings.stopper == "auto":
        decided = scheduler is not None and scheduler.value is not None
        choice = Choice(None, "the scheduler decides which trials end") if decided else choose_stopper(workload)
        auto["stopper"] = taken("stopper", choice)
    return auto


def _advice(settings: TuningSettings, workload: Workload, best_place: Choice) -> list[str]:
    """What the rules would do otherwise than the file, where that is worth saying."""
    texts = []
    if "auto" not in (settings.stopper, settings.scheduler):
        stopper, scheduler = settings.named_stopper, settings.named_scheduler
        names = (None if stopper is None else stopper.name(), None if scheduler is None else scheduler.name())
        texts.append(ending_advice(workload, *names))
    if settings.executor != "auto" and settings.workers is None:
        texts.append(executor_advice(settings.executor.name(), best_place))
    elif settings.executor == "auto" and os.environ.get("RAY_ADDRESS"):
        texts.append(
            "RAY_ADDRESS names a Ray cluster, which auto never takes; executor: {type: ray, address: auto} does"
        )
    return [text for text in texts if text]


def planned_trials(experiment: Experiment, space: Space) -> int | None:
    """How many trials the search will run: what the file says, at most the size of a finite space."""
    settings = experiment.require_tuning()
    if settings.repeats or settings.named_scheduler is not None or math.isinf(space.size):
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


def _executor(experiment: Experiment, trials: int | None, measured: Measured, device: str) -> Choice:
    """What `executor: auto` takes, and how many trials it computes at a time."""
    settings = experiment.require_tuning()
    return choose_executor(
        _machine(experiment, device),
        trials=trials,
        seconds=measured.seconds,
        workers=settings.workers,
        isolated=_isolated(settings, measured),
        script=settings.workflow == "command",
    )


def _isolated(settings: TuningSettings, measured: Measured) -> str:
    """Why a trial needs a process of its own; empty: it needs none."""
    limits = [name for name in ("trial_timeout", "trial_memory") if getattr(settings, name)]
    if limits:
        return f"tuning.{limits[0]} is kept by ending the process of a trial that goes beyond it"
    return "a setting that was tried crashed or hung, which a process of its own contains" if measured.unsafe else ""


def _machine(experiment: Experiment, device: str) -> Machine:
    """What trials can have of this machine: one a core, or a GPU where each worker process can have its own."""
    import psutil

    from modelopt_cli.core.device import visible_gpus

    free, held = int(psutil.virtual_memory().available), resident_bytes()
    if not device.startswith("cuda"):
        return Machine(usable_cores(), "core", free, held)
    gpus = len(visible_gpus()) if on_one_gpu(experiment) and ":" not in device else 1
    return Machine(max(1, gpus), "GPU", free, held)


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
