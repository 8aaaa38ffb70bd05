"""How long a trial takes, before the search: a few steps of a few settings are really run.

The file's own setting and some drawn from the space. The time of a whole trial follows from them: epochs × batches for
torch modules, folds for estimators. Where the user's own code takes part, a setting may crash or hang, so that is
measured in a worker process, within the trials' limits.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.interrupts import from_outside, watched
from modelopt_cli.core.seeds import derive
from modelopt_cli.experiment.expected_metrics import CHANGES
from modelopt_cli.tuning.executors import Event, Limits, Pool
from modelopt_cli.tuning.executors.processes import Processes
from modelopt_cli.tuning.objective import Objective, Run, StepReport
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import Params, State, Trial
from modelopt_cli.workflows.factory import open_single
from modelopt_cli.workflows.pruning.phases import planned_epochs
from modelopt_cli.workflows.search.model_cache import is_shared
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from modelopt_cli.data.part import Part
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment

_PROBE_SECONDS = 2.0  # no further setting is probed after this long
_PROBE_SETTINGS = 8
_BATCHES = 100  # an epoch of at most this many batches is run whole
_SAMPLES = 5000  # an estimator is fitted on at most this many samples
_PATIENCE = 30.0  # seconds after which a setting of the user's own code is given up


@dataclasses.dataclass(frozen=True)
class Measured:
    """Mean seconds of a trial (None: every setting failed), and whether one crashed or hung."""

    seconds: float | None
    unsafe: bool = False


def measure(experiment: Experiment, space: Space) -> Measured:
    """Run a little of the file's own setting and of some drawn ones. Raises UsageError for what no setting can mend."""
    import numpy as np

    rng = np.random.default_rng(derive(experiment.seed, "probe"))
    settings: list[Params] = [{}, *(space.sample(rng) for _ in range(_PROBE_SETTINGS))]
    executor = experiment.require_tuning().executor
    if _own_code(experiment) and (executor == "auto" or executor.name() != "serial"):
        return _isolated(experiment, settings)
    return Measured(_mean(settings, lambda params: trial_seconds(experiment.with_values(params))))


def _mean(settings: Iterable[Params], seconds: Callable[[Params], float | None]) -> float | None:
    """Mean over what could be measured in time. The first run, which pays for imports and warm-up, is made twice."""
    deadline = time.perf_counter() + _PROBE_SECONDS
    found: list[float] = []
    warm = False
    for params in settings:
        try:
            with watched():
                if not warm:
                    warm = seconds(params) is not None
                taken = seconds(params)
        except BaseException as error:
            if isinstance(error, UsageError) or from_outside(error):
                raise
            continue  # a setting that diverges, does not fit or ends itself says nothing about the others
        if taken is not None:
            found.append(taken)
        if time.perf_counter() > deadline:
            break
    return sum(found[1:] or found) / len(found[1:] or found) if found else None


def _own_code(experiment: Experiment) -> bool:
    """Does code take part that is neither modelopt's nor scikit-learn's?"""
    model, data = experiment.require_model(), experiment.require_data()
    foreign = any(not type(part).__module__.startswith("modelopt_cli.") for part in (model, data))
    given = model.model_dump(mode="json")
    estimators = [given.get("estimator"), *(step.get("estimator") for step in given.get("steps") or ())]
    foreign |= any(not str(name).startswith("sklearn.") for name in estimators if name is not None)
    return foreign or "python" in (model.name(), data.name()) or bool(experiment.evaluation.metrics)


def _isolated(experiment: Experiment, settings: list[Params]) -> Measured:
    tuning = experiment.require_tuning()
    limits = Limits(seconds=min(tuning.trial_timeout or _PATIENCE, _PATIENCE), bytes=tuning.trial_memory_bytes)
    ends: list[Event] = []
    with Processes().open(_Measuring(experiment), 1, limits) as pool:

        def seconds(params: Params) -> float | None:
            ends.append(_end(pool, Trial(number=len(ends), params=params, seed=0, state=State.RUNNING)))
            return (ends[-1].metrics or {}).get("seconds")

        mean = _mean(settings, seconds)
    return Measured(mean, any(event.failure in ("crash", "timeout", "memory") for event in ends))


def _end(pool: Pool, trial: Trial) -> Event:
    """Run `trial` and wait for its end."""
    pool.start(trial, None)
    while True:
        for event in pool.wait(0.25):
            if event.done:
                return event


class _Measuring(Objective):
    """What a worker computes: the seconds that a trial would take."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment

    def open(self, params: Params, seed: int, state: Any = None) -> Run:
        return _MeasuringRun(self._experiment.with_values(params))


class _MeasuringRun(Run):
    def __init__(self, experiment: Experiment) -> None:
        self._experiment, self._seconds = experiment, 0.0

    def advance(self, until: int) -> list[StepReport]:
        self._seconds, self.step = trial_seconds(self._experiment), until
        return []

    def metrics(self) -> Mapping[str, float]:
        return {"seconds": self._seconds}


def run_seconds(experiment: Experiment, epochs: int) -> float:
    """Estimated seconds of a run of torch training that lasts `epochs`, from a short one."""
    return torch_seconds(experiment, data_cache.prepared_data(experiment), epochs)


def trial_seconds(experiment: Experiment) -> float:
    """Estimated seconds of one training of this experiment, from a short one."""
    cv = experiment.evaluation.cv
    repeats = 1 if cv is None else len(data_cache.fold_indices(experiment))
    prepared = data_cache.prepared_data(experiment) if cv is None else data_cache.prepared_fold(experiment, 0)
    if experiment.require_model().framework == "sklearn":
        return repeats * estimator_seconds(experiment, prepared)
    return repeats * torch_seconds(experiment, prepared, _epochs(experiment))


def estimator_seconds(experiment: Experiment, prepared: Prepared) -> float:
    """Fit on at most 5,000 samples; the time grows with their number."""
    count = len(prepared.train.targets)
    scale = max(1.0, count / _SAMPLES)
    run = open_single(experiment, _shortened(prepared, _SAMPLES), 0, wanted=_wanted(experiment))
    start = time.perf_counter()
    run.advance(1)
    return (time.perf_counter() - start) * scale


def torch_seconds(
    experiment: Experiment, prepared: Prepared, epochs: int, opened: Callable[[Experiment, Prepared], Run] | None = None
) -> float:
    """Open, two epochs of at most 100 batches, final metrics; an epoch's time grows with its batches.

    `opened`: how a run of the experiment on these data is opened; None: as a plain training.
    """
    if experiment.training is None:  # a loaded model, to be pruned
        experiment = experiment.with_values({"training": {}})
    training = experiment.require_training()
    batches = math.ceil(len(prepared.train.targets) / training.batch_size)
    used = min(batches, _BATCHES)
    shortened = _shortened(prepared, used * training.batch_size)
    start = time.perf_counter()
    run = (
        open_single(experiment, shortened, 0, wanted=_wanted(experiment))
        if opened is None
        else opened(experiment, shortened)
    )
    begun = time.perf_counter()
    run.advance(min(2, run.total))
    trained = time.perf_counter()
    run.metrics()
    ended = time.perf_counter()
    epoch = (trained - begun) / max(run.step, 1) * batches / used
    return begun - start + epoch * epochs + ended - trained


def _epochs(experiment: Experiment) -> int:
    """Epochs of a whole run."""
    tuning = experiment.tuning
    if tuning is None or tuning.workflow != "prune":
        return experiment.require_training().epochs
    return planned_epochs(experiment, shared=is_shared(experiment, Space.from_spec(tuning.space)))


def _wanted(experiment: Experiment) -> list[str]:
    tuning = experiment.tuning
    return [] if tuning is None else [goal.metric for goal in tuning.goals if not goal.metric.endswith(CHANGES)]


def _shortened(prepared: Prepared, most: int) -> Prepared:
    return dataclasses.replace(prepared, train=_head(prepared.train, most))


def _head(part: Part, most: int) -> Part:
    if len(part.targets) <= most:
        return part
    weights = None if part.weights is None else part.weights[:most]
    return dataclasses.replace(
        part, inputs=part.inputs[:most], targets=part.targets[:most], weights=weights, indices=part.indices[:most]
    )
