"""What all trials of a search start from, made once: the model that they prune, the teachers that they learn from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.experiment.document.marks import Rejected
from modelopt_cli.tuning.space.parameters import is_under
from modelopt_cli.tuning.space.space import Choice, Space
from modelopt_cli.workflows.runs.torch import TorchRun
from modelopt_cli.workflows.shared import data_cache
from modelopt_cli.workflows.shared.context import Context, EpochEnded, StageBegun

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment

_TEACHERS = ("data", "seed", "device", "distillation.teacher", "distillation.teachers")
_SECTIONS = ("data", "model", "training", "device", "seed", "evaluation")


def is_shared(experiment: Experiment, space: Space) -> bool:
    """Whether all settings of the space start from the same trained model.

    Not where pruning may rewind: that needs the training's own course.
    """
    if any(path.partition(".")[0] in _SECTIONS for path in space.paths):
        return False
    if any(path.partition(".")[0] == "pruning" and path.endswith(".start") for path in space.paths):
        return False
    from modelopt_cli.workflows.pruning.phases import needs_training

    settings: list[dict[str, object]] = [{}]
    for parameter in space.parameters:
        if isinstance(parameter, Choice) and parameter.path.startswith("pruning.schedule"):
            settings += [{parameter.path: value} for value in parameter.values]
    return needs_training(experiment) and not any(_rewinds(experiment, setting) for setting in settings)


def _rewinds(experiment: Experiment, setting: Mapping[str, object]) -> bool:
    try:
        schedule = experiment.attempt(setting).require_pruning().schedule
    except Rejected:  # other values of the file do not go with it; whichever do, decide for themselves
        return True
    return any(stage.rewind is not None for stage in schedule.stages(0.5))


def make(
    experiment: Experiment, space: Space, context: Context, scratch: Path, wanted: Sequence[str] = ()
) -> str | None:
    """Train, before any trial, what all share; the model that all prune, or None.

    `wanted`: the metrics that trials report. Of a compression the first stages are made by the file's own values.
    """
    workflow, folder = experiment.require_tuning().workflow, stage_folder(context, scratch)
    if workflow == "distill" and teachers_are_shared(experiment, space):
        from modelopt_cli.workflows.distillation.run import DistillRun

        context.emit(StageBegun("training the teachers of all trials"))
        DistillRun(experiment, seed=experiment.seed, baseline=False, folder=folder).train_teachers()
    if workflow == "compress":
        _make_stages(experiment, context, folder, wanted)
    if workflow == "prune" and is_shared(experiment, space):
        context.emit(StageBegun("training the model that every trial prunes"))
        return str(train_dense(experiment, folder, context))
    return None


def _make_stages(experiment: Experiment, context: Context, folder: Path, wanted: Sequence[str]) -> None:
    """The stages before the first pruning: where the search changes them, as the first trials have them."""
    from modelopt_cli.workflows.factory import open_compression

    context.emit(StageBegun("training the models that trials share"))
    open_compression(experiment, experiment.seed, wanted=wanted, folder=folder, left_out=None).make_shared()


def shared_stages(experiment: Experiment, space: Space) -> int:
    """How many of the first stages of a compression the search does not touch."""
    from modelopt_cli.workflows.compression.stages import plan_stages

    count = 0
    for stage in plan_stages(experiment, trial=True):
        heads = ("data", *stage.sections)
        if stage.own or any(is_under(path, head) for path in space.paths for head in heads):
            break
        count += 1
    return count


def teachers_are_shared(experiment: Experiment, space: Space) -> bool:
    """Whether teachers are trained here, and the search changes nothing that they depend on."""
    trained = any(teacher.trained_here for teacher in experiment.require_distillation().given_teachers)
    return trained and not any(is_under(path, head) for path in space.paths for head in _TEACHERS)


def stage_folder(context: Context, scratch: Path) -> Path:
    """Where stages of a search are kept: in its run directory, or for a search in memory in the scratch folder."""
    return context.directory.path_of(".stages") if context.directory is not None else scratch


def dense_file(experiment: Experiment, folder: str | Path) -> Path:
    """Where the trained model lies: named by the sections it depends on, the data's fingerprint and the seed."""
    prepared = data_cache.prepared_data(experiment)
    parts: dict[str, object] = {
        "data": data_cache.pinned_data(experiment),
        "model": experiment.require_model().model_dump(mode="json"),
        "training": experiment.require_training().deciding(),
        "seed": experiment.seed,
        "fingerprint": prepared.fingerprint,
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    return Path(folder, f"{digest}.pt")


def train_dense(experiment: Experiment, folder: str | Path, context: Context) -> Path:
    """Train the model with the experiment's own seed, unless it is there already."""
    from modelopt_cli.models.files import checkpoints

    path = dense_file(experiment, folder)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        run = TorchRun(experiment, data_cache.prepared_data(experiment), seed=experiment.seed)
        while run.step < run.total:
            for step, metrics in run.advance(run.step + 1):
                context.emit(EpochEnded(step, run.known_total, metrics, "the model that every trial prunes"))
        checkpoints.save(path, run.checkpoint(run.metrics()))
    return path
