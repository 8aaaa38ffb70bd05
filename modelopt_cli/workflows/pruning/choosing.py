"""What choosing what goes costs, before anything runs: where an allocation tries cuts out on calibration samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelopt_cli.workflows.pruning.run import PruneRun
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment


def tries(experiment: Experiment) -> float:
    """About how many cuts of each tensor or group are tried out in one pruning; 0 where none is."""
    if experiment.pruning is None:
        return 0.0
    allocation = experiment.pruning.chosen_allocation
    return allocation.tries() if allocation is not None and allocation.measures else 0.0


def choosing_cost(experiment: Experiment) -> tuple[float, float]:
    """(passes over the calibration samples, seconds) that the allocation is likely to take, over all prunings.

    (0, 0) where it tries nothing out. The model is built, as it is untrained, and a little of it is run.
    """
    if not tries(experiment):
        return 0.0, 0.0
    settings = experiment.require_pruning()
    run = PruneRun(experiment, data_cache.prepared_data(experiment), seed=experiment.seed, timed=False)
    passes, seconds = run.model.expected()
    times = sum(len(stage.marks) for stage in settings.schedule.stages(settings.amount or 0.5))
    return times * passes, times * seconds
