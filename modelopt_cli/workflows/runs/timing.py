"""How long a training will take: a few steps of it are really run, and the rest follows from these."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelopt_cli.experiment.expected_metrics import CHANGES
from modelopt_cli.workflows.runs.opening import open_single
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from modelopt_cli.data.part import Part
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.tuning.objective import Run

_BATCHES = 100  # an epoch of at most this many batches is run whole
_SAMPLES = 5000  # an estimator is fitted on at most this many samples


def training_seconds(experiment: Experiment, epochs: int | None = None) -> float:
    """Estimated seconds of the experiment's training, of all its folds where there are some.

    `epochs`: of a run of torch that lasts for others than the training section says.
    """
    cv = experiment.evaluation.cv
    repeats = 1 if cv is None else len(data_cache.fold_indices(experiment))
    prepared = data_cache.prepared_data(experiment) if cv is None else data_cache.prepared_fold(experiment, 0)
    if experiment.require_model().framework == "sklearn":
        return repeats * estimator_seconds(experiment, prepared)
    epochs = experiment.require_training().epochs if epochs is None else epochs
    return repeats * torch_seconds(experiment, prepared, epochs)


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
    processes = 1
    if training.distributed is not None:  # timed in this process alone, since several take long to start
        processes = training.distributed.processes
        alone = training.model_copy(update={"distributed": None})
        experiment = experiment.model_copy(update={"training": alone})
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
    epoch = (trained - begun) / max(run.step, 1) * batches / used / processes
    return begun - start + epoch * epochs + ended - trained


def _wanted(experiment: Experiment) -> list[str]:
    """The metrics that a trial computes; those of pruning are none of a training's."""
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
