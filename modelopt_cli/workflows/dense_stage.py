"""The model before pruning, trained once for all trials of a search that does not change how it is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.workflows import stages
from modelopt_cli.workflows.prune_phases import needs_training
from modelopt_cli.workflows.torch_run import TorchRun, pinned_data

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.workflows.context import Context

_SECTIONS = ("data", "model", "training", "device", "seed", "evaluation")


def is_shared(experiment: Experiment, paths: Iterable[str]) -> bool:
    """Whether all settings of these searched paths start from the same trained model.

    Not where pruning rewinds: that needs the training's own course.
    """
    touched = any(path.partition(".")[0] in _SECTIONS for path in paths)
    rewinds = any(path.startswith("pruning.schedule") or path == "pruning.start" for path in paths)
    stages_ = experiment.require_pruning().schedule.stages(0.5)
    rewinds |= any(stage.rewind is not None for stage in stages_)
    return not touched and not rewinds and needs_training(experiment)


def stage_folder(context: Context, scratch: Path) -> Path:
    """Where stages of a search are kept: in its run directory, or for a search in memory in the scratch folder."""
    return context.directory.path_of(".stages") if context.directory is not None else scratch


def dense_file(experiment: Experiment, folder: str | Path) -> Path:
    """Where the trained model lies: named by the sections it depends on, the data's fingerprint and the seed."""
    prepared = stages.prepared_data(experiment)
    parts: dict[str, Any] = {
        "data": pinned_data(experiment),
        "model": experiment.require_model().model_dump(mode="json"),
        "training": experiment.require_training().model_dump(mode="json"),
        "seed": experiment.seed,
        "fingerprint": prepared.fingerprint,
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    return Path(folder, f"{digest}.pt")


def train_dense(experiment: Experiment, folder: str | Path) -> Path:
    """Train the model with the experiment's own seed, unless it is there already."""
    from modelopt_cli.models import checkpoints

    path = dense_file(experiment, folder)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        run = TorchRun(experiment, stages.prepared_data(experiment), seed=experiment.seed)
        while run.step < run.total:
            run.advance(run.total)
        checkpoints.save(path, run.checkpoint(run.metrics()))
    return path
