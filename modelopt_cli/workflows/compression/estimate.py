"""How long the stages of a compression will take: a few steps of each are run, with models as they are untrained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelopt_cli.workflows.compression.opening import planned_steps
from modelopt_cli.workflows.compression.stages import Stage, plan_stages
from modelopt_cli.workflows.pruning.choosing import choosing_cost
from modelopt_cli.workflows.runs.timing import training_seconds

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment

_QUANTIZATION = 5.0
"""Seconds that a quantization takes, export and calibration included, where the model is small."""


def seconds_of_stages(experiment: Experiment, *, trial: bool = False) -> dict[str, float]:
    """Estimated seconds of each stage that makes a model, in order; `trial`: of a search."""
    stages = plan_stages(experiment, trial=trial)
    if any(stage.experiment.training is not None for stage in stages):
        _seconds(stages[0])  # the first one pays for imports and warm-up
    return {stage.name: _seconds(stage) for stage in stages}


def choosing_of_stages(experiment: Experiment, *, trial: bool = False) -> tuple[float, float]:
    """(passes over the calibration samples, seconds) that prunings take to try cuts out; `trial`: of a search."""
    stages = [stage for stage in plan_stages(experiment, trial=trial) if stage.name == "prune"]
    costs = [choosing_cost(stage.experiment) for stage in stages]
    return sum(passes for passes, _ in costs), sum(seconds for _, seconds in costs)


def _seconds(stage: Stage) -> float:
    experiment, steps = stage.experiment, planned_steps(stage)
    if stage.name == "distill":
        from modelopt_cli.workflows.distillation.estimate import seconds_of_jobs

        jobs = seconds_of_jobs(experiment)
        return sum(seconds for name, (_, seconds) in jobs.items() if not (stage.taught and name == "teacher"))
    if stage.name == "quantize":
        return _QUANTIZATION + (training_seconds(experiment, steps - 1) if steps > 1 else 0.0)
    return training_seconds(experiment, steps)
