"""How a stage's run is opened, how many steps it will have, and what its run leaves beside its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modelopt_cli.workflows.runs.opening import monitored
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from pathlib import Path

    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.workflows.compression.stages import Stage
    from modelopt_cli.workflows.runs.base import ModelRun


def open_stage(
    stage: Stage,
    experiment: Experiment,
    *,
    folder: Path,
    before: Checkpoint | None,
    dense: Checkpoint | None,
    wanted: Sequence[str] | None,
    state: Any,
) -> ModelRun:
    """The run of the stage. `before`: the model of the one before; `dense`: the one that all are compared with."""
    prepared, monitor = data_cache.prepared_data(experiment), monitored(wanted)
    if stage.name == "train":
        from modelopt_cli.workflows.runs.torch import TorchRun

        return TorchRun(experiment, prepared, seed=stage.seed, monitor=monitor, state=state)
    if stage.name == "distill":
        from modelopt_cli.workflows.distillation.run import DistillRun

        baseline = False if stage.trial else None
        return DistillRun(
            experiment,
            seed=stage.seed,
            baseline=baseline,
            monitor=monitor,
            folder=folder,
            state=state,
            costed=not stage.trial,
        )
    if stage.name == "prune":
        from modelopt_cli.workflows.pruning.run import PruneRun

        timed = not stage.trial
        return PruneRun(experiment, prepared, seed=stage.seed, monitor=monitor, state=state, timed=timed, cuts=folder)
    from modelopt_cli.workflows.quantization.run import QuantizeRun

    model = before or dense
    assert model is not None  # else the file is refused
    return QuantizeRun(
        experiment,
        prepared,
        seed=stage.seed,
        module=model.model,
        dense=None if dense is None else dense.model,
        state=state,
        monitor=monitor,
    )


def planned_steps(stage: Stage) -> int:
    """Steps of the stage's whole run, as far as they are known before it is opened."""
    experiment = stage.experiment
    if stage.name == "train":
        return experiment.require_training().epochs
    if stage.name == "distill":
        from modelopt_cli.workflows.distillation.jobs import training_jobs

        baseline = not stage.trial and experiment.require_distillation().baseline
        jobs = training_jobs(experiment, stage.seed, baseline=baseline)
        left = [job for job in jobs if job.role != "given" and not (stage.taught and job.role == "teacher")]
        return sum(
            job.experiment.require_training().epochs if job.experiment.require_model().framework == "torch" else 1
            for job in left
        )
    if stage.name == "prune":
        from modelopt_cli.training.settings import TrainingSettings
        from modelopt_cli.workflows.pruning.phases import phases

        pruning = experiment.require_pruning()
        course = phases(
            pruning,
            experiment.training or TrainingSettings(),
            pruning.schedule.stages(None if pruning.threshold is not None else pruning.amount or 0.5),
            trains=False,
        )
        return sum(phase.steps for phase in course)
    recovery = experiment.require_quantization().recovery
    if recovery is None or recovery.when == "auto":  # which asks for epochs where it turns out to need them
        return 1
    return 1 + (recovery.epochs or experiment.require_training().epochs)
