"""How long a trial takes, before the search: a few steps of a few settings are really run.

The file's own setting and some drawn from the space. The time of a whole trial follows from them: epochs × batches for
torch modules, folds for estimators. Where the user's own code takes part, a setting may crash or hang, so that is
measured in a worker process, within the trials' limits.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.processes.interrupts import from_outside, noting_interrupts
from modelopt_cli.core.seeds import derive
from modelopt_cli.experiment.document.marks import Rejected
from modelopt_cli.tuning.executors import Event, Limits, Pool
from modelopt_cli.tuning.executors.processes import Processes
from modelopt_cli.tuning.objective import Objective, Run, StepReport
from modelopt_cli.tuning.space.space import Choice, Space
from modelopt_cli.tuning.trials.trial import Params, State, Trial
from modelopt_cli.workflows.runs.timing import training_seconds
from modelopt_cli.workflows.search.model_cache import is_shared, shared_stages

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment

_PROBE_SECONDS = 2.0  # no further setting is probed after this long
_PROBE_SETTINGS = 8
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
    measured: list[float] = []
    warm = False
    for params in settings:
        try:
            with noting_interrupts():
                if not warm:
                    warm = seconds(params) is not None
                taken = seconds(params)
        except BaseException as error:
            if isinstance(error, UsageError) or from_outside(error):
                raise
            continue  # a setting that diverges, does not fit or ends itself says nothing about the others
        if taken is not None:
            measured.append(taken)
        if time.perf_counter() > deadline:
            break
    return sum(measured[1:] or measured) / len(measured[1:] or measured) if measured else None


def _own_code(experiment: Experiment) -> bool:
    """Does code take part that is neither modelopt's nor scikit-learn's?"""
    model, data = experiment.require_model(), experiment.require_data()
    foreign = any(not type(part).__module__.startswith("modelopt_cli.") for part in (model, data))
    given = model.model_dump(mode="json")
    estimators = [given.get("estimator"), *(step.get("estimator") for step in given.get("steps") or ())]
    foreign |= any(not str(name).startswith("sklearn.") for name in estimators if name is not None)
    return foreign or "python" in (model.name(), data.name()) or bool(experiment.evaluation.metrics)


def _isolated(experiment: Experiment, settings: list[Params]) -> Measured:
    ends: list[Event] = []
    with Processes().open(_Measuring(experiment, _time), 1, _limits(experiment)) as pool:

        def seconds(params: Params) -> float | None:
            ends.append(_end(pool, Trial(number=len(ends), params=params, seed=0, state=State.RUNNING)))
            return (ends[-1].metrics or {}).get("seconds")

        mean = _mean(settings, seconds)
    return Measured(mean, any(event.failure in ("crash", "timeout", "memory") for event in ends))


def _limits(experiment: Experiment) -> Limits:
    tuning = experiment.require_tuning()
    return Limits(seconds=min(tuning.trial_timeout or _PATIENCE, _PATIENCE), bytes=tuning.trial_memory_bytes)


def choosing(experiment: Experiment, space: Space) -> tuple[float, float]:
    """(passes over the calibration samples, seconds) that a trial's allocation takes to try cuts out, at most.

    Of the dearest allocation among the file's own and those of the space; (0, 0) where none tries anything out, or it
    cannot be told. Trials that prune one model share what they measured, so that later ones take less.
    """
    if experiment.require_tuning().workflow not in ("prune", "compress"):
        return 0.0, 0.0
    from modelopt_cli.workflows.pruning.choosing import tries

    dearest = max([experiment, *_with_allocations(experiment, space)], key=tries)
    if not tries(dearest):
        return 0.0, 0.0
    executor = experiment.require_tuning().executor
    if _own_code(experiment) and (executor == "auto" or executor.name() != "serial"):
        with Processes().open(_Measuring(dearest, _choosing), 1, _limits(experiment)) as pool:
            figures = _end(pool, Trial(number=0, params={}, seed=0, state=State.RUNNING)).metrics or {}
    else:
        figures = _choosing(dearest)
    return figures.get("passes", 0.0), figures.get("seconds", 0.0)


def _with_allocations(experiment: Experiment, space: Space) -> Iterator[Experiment]:
    """With each allocation that the space has."""
    for parameter in space.parameters:
        if isinstance(parameter, Choice) and parameter.path == "pruning.allocation":
            for value in parameter.values:
                with suppress(Rejected):  # other values of the file do not go with it
                    yield experiment.attempt({parameter.path: value})


def _choosing(experiment: Experiment) -> dict[str, float]:
    if experiment.require_tuning().workflow == "compress":
        from modelopt_cli.workflows.compression.estimate import choosing_of_stages

        passes, seconds = choosing_of_stages(experiment, trial=True)
    else:
        from modelopt_cli.workflows.pruning.choosing import choosing_cost

        passes, seconds = choosing_cost(experiment)
    return {"passes": passes, "seconds": seconds}


def _end(pool: Pool, trial: Trial) -> Event:
    """Run `trial` and wait for its end."""
    pool.start(trial, None)
    while True:
        for event in pool.wait(0.25):
            if event.done:
                return event


class _Measuring(Objective):
    """What a worker computes of an experiment with a trial's values: the figures that `measures` gives."""

    def __init__(self, experiment: Experiment, measures: Callable[[Experiment], dict[str, float]]) -> None:
        self._experiment, self._measures = experiment, measures

    def open(self, params: Params, seed: int, state: Any = None) -> Run:
        return _MeasuringRun(self._experiment.with_values(params), self._measures)


class _MeasuringRun(Run):
    def __init__(self, experiment: Experiment, measures: Callable[[Experiment], dict[str, float]]) -> None:
        self._experiment, self._measures = experiment, measures
        self._figures: dict[str, float] = {}

    def advance(self, until: int) -> list[StepReport]:
        self._figures, self.step = self._measures(self._experiment), until
        return []

    def metrics(self) -> Mapping[str, float]:
        return self._figures


def _time(experiment: Experiment) -> dict[str, float]:
    return {"seconds": trial_seconds(experiment)}


def trial_seconds(experiment: Experiment) -> float:
    """Estimated seconds of one trial, from a short one."""
    if experiment.require_tuning().workflow == "compress":
        from modelopt_cli.workflows.compression.estimate import seconds_of_stages

        made = shared_stages(experiment, Space.from_spec(experiment.require_tuning().space))
        return sum(list(seconds_of_stages(experiment, trial=True).values())[made:])
    return training_seconds(experiment, _epochs(experiment))


def _epochs(experiment: Experiment) -> int | None:
    """Epochs of a whole trial; None: those of the training section."""
    tuning = experiment.require_tuning()
    if tuning.workflow != "prune":
        return None
    from modelopt_cli.workflows.pruning.phases import planned_epochs

    return planned_epochs(experiment, shared=is_shared(experiment, Space.from_spec(tuning.space)))
