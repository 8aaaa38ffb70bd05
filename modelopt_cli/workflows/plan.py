"""The plan of a search before it runs: what will be tried, where, and what it will cost in time and memory.

A few steps of a few settings (the file's own and some drawn from the space) are really run. The time of a whole trial
follows from them: epochs × batches for torch modules, folds for estimators. A script cannot be run in part, so its
time stays unknown until a trial has ended.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.seeds import derive
from modelopt_cli.workflows import stages
from modelopt_cli.workflows.objectives import open_single

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from modelopt_cli.data.prepared import Part, Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.tuning.space import Space
    from modelopt_cli.tuning.trial import Params

_PROBE_SECONDS = 2.0  # no further setting is probed after this long
_PROBE_SETTINGS = 8
_BATCHES = 100  # an epoch of at most this many batches is run whole
_SAMPLES = 5000  # an estimator is fitted on at most this many samples
_WORKER_START = 4.0  # seconds until worker processes have imported what they need


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a search is about to do. Seconds and bytes are estimates, None where nothing can be known beforehand."""

    parameters: int
    space_size: int | None  # None: infinite
    trials: int | None  # None: until the time is up
    sampler: str
    stopper: str | None
    executor: str
    workers: int
    device: str
    trial_seconds: float | None
    seconds: float | None
    bytes: int | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the report."""
        found = dataclasses.asdict(self)
        return {**found, "estimated_seconds": found.pop("seconds"), "estimated_bytes": found.pop("bytes")}


def make_plan(experiment: Experiment, space: Space) -> Plan:
    """Probe, choose the executor where the file leaves it open, and estimate."""
    settings = experiment.require_tuning()
    size = None if math.isinf(space.size) else int(space.size)
    trials = planned_trials(experiment, space)
    device = "none" if settings.workflow == "command" else _device(experiment)
    trial_seconds = None if settings.workflow == "command" else _probe(experiment, space)
    name, workers = _executor(experiment, trials, trial_seconds, device)
    suggestion = _suggestion_seconds(experiment, space, trials or 50)
    seconds = None
    if trial_seconds is not None and trials is not None:
        spread = trials * trial_seconds / workers
        seconds = spread + trials * suggestion + (_WORKER_START if name == "processes" else 0.0)
        seconds += trial_seconds if _refits(experiment) else 0.0
    resident = resident_bytes()
    return Plan(
        parameters=len(space.parameters),
        space_size=size,
        trials=trials,
        sampler=settings.sampler.name(),
        stopper=settings.stopper.name() if settings.stopper else None,
        executor=name,
        workers=workers,
        device=device,
        trial_seconds=trial_seconds,
        seconds=seconds,
        bytes=resident * (1 + workers) if name == "processes" else resident,
    )


def planned_trials(experiment: Experiment, space: Space) -> int | None:
    """How many trials the search will run: what the file says, at most the size of a finite space."""
    settings = experiment.require_tuning()
    if settings.repeats or math.isinf(space.size):
        return settings.trials
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


def _refits(experiment: Experiment) -> bool:
    settings = experiment.require_tuning()
    if settings.workflow == "command":
        return False
    framework = experiment.require_model().framework
    return framework == "sklearn" or experiment.evaluation.cv is not None or settings.refit is not None


def _executor(experiment: Experiment, trials: int | None, trial_seconds: float | None, device: str) -> tuple[str, int]:
    """The file's choice; else worker processes where they save more time than they take to start."""
    settings = experiment.require_tuning()
    cores = os.cpu_count() or 1
    if settings.executor != "auto":
        name = settings.executor.name()
        return name, 1 if name == "serial" else settings.workers or cores
    if settings.workflow == "command" or settings.trial_timeout or settings.trial_memory:
        return "processes", settings.workers or (1 if settings.workflow == "command" else cores)
    workers = settings.workers or (1 if device.startswith("cuda") else cores)
    if settings.workers is None and trials is not None and trial_seconds is not None:
        saved = trials * trial_seconds * (1 - 1 / workers)
        workers = workers if saved > 2 * _WORKER_START else 1
    return ("processes", workers) if workers > 1 else ("serial", 1)


def _suggestion_seconds(experiment: Experiment, space: Space, trials: int) -> float:
    """Mean time of a suggestion: measured once, on an invented history of half the length."""
    import numpy as np

    from modelopt_cli.tuning.trial import State, Trial

    rng = np.random.default_rng(0)
    history = [
        Trial(number=number, params=space.sample(rng), seed=0, state=State.COMPLETED, losses=(float(rng.random()),))
        for number in range(min(trials // 2, 200))
    ]
    start = time.perf_counter()
    experiment.require_tuning().sampler.suggest(space, history, rng, 1)
    return time.perf_counter() - start


def _probe(experiment: Experiment, space: Space) -> float | None:
    """Mean seconds of a trial, over the file's own setting and some drawn ones; None when all of them fail."""
    import numpy as np

    deadline = time.perf_counter() + _PROBE_SECONDS
    found: list[float] = []
    warm = False
    for params in _settings(experiment, space, np.random.default_rng(derive(experiment.seed, "probe"))):
        try:
            if not warm:
                trial_seconds(experiment.with_values(params))  # the first run pays for imports and warm-up
                warm = True
            found.append(trial_seconds(experiment.with_values(params)))
        except UsageError:
            raise
        except Exception:
            continue
        if time.perf_counter() > deadline:
            break
    return float(np.mean(found[1:] or found)) if found else None


def _settings(experiment: Experiment, space: Space, rng: np.random.Generator) -> Sequence[Params]:
    return [{}, *(space.sample(rng) for _ in range(_PROBE_SETTINGS))]


def trial_seconds(experiment: Experiment) -> float:
    """Estimated seconds of one training of this experiment, from a short one."""
    cv = experiment.evaluation.cv
    repeats = 1 if cv is None else len(stages.fold_indices(experiment))
    prepared = stages.prepared_data(experiment) if cv is None else stages.prepared_fold(experiment, 0)
    if experiment.require_model().framework == "sklearn":
        return repeats * _estimator_seconds(experiment, prepared)
    return repeats * _torch_seconds(experiment, prepared)


def _estimator_seconds(experiment: Experiment, prepared: Prepared) -> float:
    count = len(prepared.train.targets)
    scale = max(1.0, count / _SAMPLES)
    run = open_single(experiment, _shortened(prepared, _SAMPLES), 0, wanted=_wanted(experiment))
    start = time.perf_counter()
    run.advance(1)
    return (time.perf_counter() - start) * scale


def _torch_seconds(experiment: Experiment, prepared: Prepared) -> float:
    """Open, two epochs of at most 100 batches, final metrics; an epoch's time grows with its batches."""
    training = experiment.require_training()
    batches = math.ceil(len(prepared.train.targets) / training.batch_size)
    used = min(batches, _BATCHES)
    shortened = _shortened(prepared, used * training.batch_size)
    start = time.perf_counter()
    run = open_single(experiment, shortened, 0, wanted=_wanted(experiment))
    opened = time.perf_counter()
    run.advance(min(2, run.total))
    trained = time.perf_counter()
    run.metrics()
    ended = time.perf_counter()
    epoch = (trained - opened) / max(run.step, 1) * batches / used
    return opened - start + epoch * training.epochs + ended - trained


def _wanted(experiment: Experiment) -> list[str]:
    return [goal.metric for goal in experiment.require_tuning().goals]


def _shortened(prepared: Prepared, most: int) -> Prepared:
    return dataclasses.replace(prepared, train=_head(prepared.train, most))


def _head(part: Part, most: int) -> Part:
    if len(part.targets) <= most:
        return part
    weights = None if part.weights is None else part.weights[:most]
    return dataclasses.replace(
        part, inputs=part.inputs[:most], targets=part.targets[:most], weights=weights, indices=part.indices[:most]
    )
