"""What can only be checked by importing and reading: estimators, targets, devices, data. Runs before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelopt_cli.core.errors import UsageError

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment


def preflight(experiment: Experiment, *, prunes: bool = False) -> None:
    """Raise the first UsageError (or InputError) that running (`prunes`: pruning) the experiment would meet."""
    if experiment.command is not None and experiment.model is None:
        return
    from modelopt_cli.workflows.shared import data_cache

    model = experiment.require_model()
    model.check()
    for metric in experiment.evaluation.own:
        metric.check()
    if model.framework == "torch":
        from modelopt_cli.core.device import choose
        from modelopt_cli.workflows.shared.latencies import require

        require(experiment.evaluation.latency)

        choose(experiment.device)
        if not prunes:
            experiment.require_training()
    if experiment.tuning is not None and experiment.tuning.fidelity is not None:
        data_cache.training_samples(experiment, experiment.tuning.fidelity.sizes[0])  # raises where that is too small
    if experiment.evaluation.cv is not None:
        prepared = data_cache.prepared_fold(experiment, 0)
    else:
        prepared = data_cache.prepared_data(experiment)
        if experiment.tuning is not None and prepared.validation is None:
            raise UsageError(
                "the validation split is empty, so a search has nothing to choose by; "
                "set data.splits.validation (e.g. 0.2) or evaluation.cv (e.g. 5)"
            )
    if model.framework == "sklearn":
        model.build(prepared.shapes, experiment.seed)  # raises where it does not go with the task
    elif experiment.training is not None:
        from modelopt_cli.training import losses

        losses.check(experiment.training, prepared.task, prepared.shapes.outputs)
