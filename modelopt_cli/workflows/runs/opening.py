"""The run that an experiment's training is: of torch, of an estimator, of folds, or of a part of the train split."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from modelopt_cli.experiment.expected_metrics import CHANGES, GAP, is_latency
from modelopt_cli.workflows.runs.base import ModelRun
from modelopt_cli.workflows.runs.cross_validation import CrossValidationRun
from modelopt_cli.workflows.runs.distributed import torch_run
from modelopt_cli.workflows.runs.estimator import EstimatorRun
from modelopt_cli.workflows.runs.subset import fitting_batches
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.tuning.objective import Run


def open_run(
    experiment: Experiment,
    seed: int,
    *,
    wanted: Sequence[str] | None = None,
    state: Any = None,
    step: int | None = None,
) -> ModelRun | CrossValidationRun:
    """The experiment's training as a run; `wanted` names the metrics that must be there (None: all).

    `step`: of tuning.fidelity, to train on that part of the train split; None: on all of it.
    """
    if experiment.evaluation.cv is not None:
        return _over_folds(experiment, seed, wanted, state, step)
    prepared = data_cache.prepared_data(experiment, step)
    return open_single(fitting_batches(experiment, prepared, step), prepared, seed, wanted=wanted, state=state)


def open_single(
    experiment: Experiment,
    prepared: Prepared,
    seed: int,
    *,
    wanted: Sequence[str] | None = None,
    state: Any = None,
    timed: bool = True,
) -> ModelRun:
    """One training on the given splits. `timed`: latency is measured where it is wanted."""
    if experiment.require_model().framework == "sklearn":
        return EstimatorRun(experiment, prepared, seed=seed, wanted=wanted)
    timed &= experiment.evaluation.latency is not None and (wanted is None or any(map(is_latency, wanted)))
    return torch_run(experiment, prepared, seed=seed, monitor=monitored(wanted), state=state, timed=timed)


def _over_folds(
    experiment: Experiment, seed: int, wanted: Sequence[str] | None, state: Any, step: int | None
) -> CrossValidationRun:
    count = len(data_cache.fold_indices(experiment))
    folds = [partial(data_cache.prepared_fold, experiment, fold, step) for fold in range(count)]

    def open_fold(prepared: Prepared) -> Run:
        return open_single(fitting_batches(experiment, prepared, step), prepared, seed, wanted=wanted, timed=False)

    return CrossValidationRun(folds, open_fold, state)


def trained_on_all(experiment: Experiment, seed: int, epochs: float | None) -> ModelRun:
    """A finished training on all samples but the test split's.

    No validation split is left to end it by, so it lasts for `epochs`: as long as where there was one (of folds, the
    mean). None: an estimator, which has no epochs.
    """
    if epochs is not None and experiment.training is not None:
        experiment = experiment.with_values({"training.epochs": max(1, round(epochs)), "training.patience": None})
        experiment = experiment.with_values({"training.keep": "last", "training.monitor": None})
    run = open_single(experiment, data_cache.development_data(experiment), seed)
    run.advance(run.total)
    return run


def monitored(wanted: Sequence[str] | None) -> list[str]:
    """The validation metrics that are reported after each epoch: with one objective missing, no report is compared."""
    derived = (*CHANGES, GAP)
    return [name for name in wanted or () if name.startswith("validation.") and not name.endswith(derived)]
