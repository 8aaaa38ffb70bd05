"""Teachers that are there already: a model.pt, weights of a model, or what the user's own code builds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.consent import NOTHING
from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.architectures.checkpoint import Checkpoint as CheckpointModel
from modelopt_cli.workflows.distillation.trained_model import TrainedModel

if TYPE_CHECKING:
    from modelopt_cli.core.consent import Consent
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.distillation.settings import TeacherSettings
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
    checkpoint = checkpoints.load(path, consent) if path is not None else _built(settings, seed, prepared)
    teacher = TrainedModel(name, checkpoint)
    teacher.module(prepared)  # raises where it cannot teach on these data
    return teacher


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
