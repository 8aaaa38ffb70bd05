"""Teachers that are there already, and whether a model may teach on the student's data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.consent import NOTHING
from modelopt_cli.core.errors import RefusedError, UsageError
from modelopt_cli.models.architectures.checkpoint import Checkpoint as CheckpointModel
from modelopt_cli.workflows.distillation.trained_model import TrainedModel

if TYPE_CHECKING:
    from modelopt_cli.core.consent import Consent
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.distillation.settings import TeacherSettings
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint


def given(
    settings: TeacherSettings, name: str, seed: int, prepared: Prepared, consent: Consent = NOTHING
) -> TrainedModel:
    """A teacher from a model.pt, from weights of a model, or as the user's own code builds it.

    `consent`: of the experiment, beside the teacher's own. Raises InputError for a file that cannot be read,
    RefusedError for one that would run code, UsageError for one of other data.
    """
    from modelopt_cli.models.files import checkpoints

    path, consent = settings.path, consent.also(settings.trust_code)
    if path is None and isinstance(settings.model, CheckpointModel):
        path, consent = settings.model.path, consent.also(settings.model.trust_code)
    found = checkpoints.load(path, consent) if path is not None else _built(settings, seed, prepared)
    learned = TrainedModel(name, found)
    learned.module(prepared)
    return learned


def seen_before(checkpoint: Checkpoint, experiment: Experiment, name: str) -> str:
    """A warning where the teacher was trained on samples that the student is judged on; empty where not, or unknown.

    A teacher that knows the answers looks better than it is, and so does who learns from it on other samples.
    """
    import numpy as np

    from modelopt_cli.data.splits import split
    from modelopt_cli.models.files import checkpoints
    from modelopt_cli.workflows.shared import data_cache

    if not checkpoint.data:
        return ""
    try:
        source: Any = checkpoints.agreed("data", checkpoint.data_section(), name, experiment.consent)
    except RefusedError:
        return ""  # not the experiment's data, and not read
    free = {"splits": None, "augment": (), "standardize": None}
    if source.model_copy(update=free) != data_cache.source_of(experiment).model_copy(update=free):
        return ""
    raw = data_cache.raw_data(experiment)
    theirs = split(raw, source.splits, data_cache.data_seed(experiment))
    mine = data_cache.split_data(experiment)
    counts = {part: len(np.intersect1d(theirs.train, getattr(mine, part))) for part in ("validation", "test")}
    told = [f"{count} of {len(getattr(mine, part))} {part}" for part, count in counts.items() if count]
    if not told:
        return ""
    return (
        f"the {name} was trained with other splits: it has seen {' and '.join(told)} samples of this run, so its "
        f"figures there are no measurement; use the same data.splits, seed included ({source.splits.seed})"
    )


def _built(settings: TeacherSettings, seed: int, prepared: Prepared) -> Checkpoint:
    """A model of the user's own code, or one with weights from a file; it takes what the student takes."""
    import torch

    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.models.files.state_files import open_state
    from modelopt_cli.workflows.shared.module_of_file import load_weights

    assert settings.model is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module: Any = settings.model.build(prepared.shapes, seed)
    if settings.weights is not None:
        file = open_state(Path(settings.weights))
        if not file.bare:
            raise UsageError(
                f"{settings.weights} is a model.pt of modelopt, which says itself what model it is; write teacher: "
                f"{settings.weights}"
            )
        load_weights(module, file.tensors, file.path)
    return Checkpoint(
        model=module,
        architecture=settings.model,
        shapes=prepared.shapes,
        preprocessing={},
        label_names=prepared.label_names,
        task=prepared.task,
    )
