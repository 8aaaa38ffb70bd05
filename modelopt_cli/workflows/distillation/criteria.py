"""From the distillation section to the criterion of a student's training, and the data that it learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import UsageError, did_you_mean
from modelopt_cli.core.seeds import derive
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.distillation.settings import Guidance
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.training.criterion import Criterion


def criterion_of(
    experiment: Experiment, teachers: Sequence[nn.Module], prepared: Prepared, seed: int, folder: Path | None
) -> Criterion:
    """What the section says: finished teachers, the student's moving average, or peers.

    `teachers` take what the student takes. `folder`: where a cache on disk lies.
    """
    from modelopt_cli.distillation.moving_average import MovingAverageCriterion
    from modelopt_cli.distillation.mutual import MutualCriterion

    settings = experiment.require_distillation()
    if settings.mutual is not None:
        import torch

        architecture = experiment.require_model()
        models = settings.mutual.models or (architecture,) * (settings.mutual.count - 1)
        peers = []
        for number, model in enumerate(models, start=1):
            own_seed = derive(seed, "peer", number)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(own_seed)
                peers.append(model.build(prepared.shapes, own_seed))
        return MutualCriterion(settings, peers, prepared.task)
    if settings.ema is not None:
        return MovingAverageCriterion(settings, prepared.task, settings.ema.decay)
    weights = [teacher.weight for teacher in settings.given_teachers]
    return teacher_criterion(
        settings,
        teachers,
        prepared,
        weights=weights if len(weights) == len(teachers) else (),
        names=",".join(map(str, settings.leave_out)),
        folder=folder,
    )


def teacher_criterion(
    settings: Guidance,
    teachers: Sequence[nn.Module],
    prepared: Prepared,
    *,
    weights: Sequence[float] = (),
    names: str = "",
    folder: Path | None = None,
) -> Criterion:
    """Finished teachers; `names`: what the train split lacks, which a cache must tell apart."""
    from modelopt_cli.distillation.teacher_criterion import TeacherCriterion

    return TeacherCriterion(
        settings,
        teachers,
        prepared.task,
        weights=weights,
        data=f"{prepared.fingerprint}/{names}",
        folder=None if folder is None else folder / "lessons",
    )


def student_data(experiment: Experiment) -> Prepared:
    """The student's data: without the classes that `leave_out` names in the train split. Raises UsageError."""
    import numpy as np

    prepared = data_cache.prepared_data(experiment)
    named = [str(name) for name in experiment.require_distillation().leave_out]
    if not named:
        return prepared
    if prepared.task != "classification":
        raise UsageError(f"distillation.leave_out names classes, but the task is {prepared.task}; leave it out")
    known = list(prepared.label_names) or [str(number) for number in range(prepared.shapes.outputs)]
    for name in named:
        if name not in known:
            raise UsageError(
                f"distillation.leave_out: the data have no class '{name}'.{did_you_mean(name, known)} "
                f"Known: {', '.join(known[:20])}{', ...' * (len(known) > 20)}"
            )
    train = prepared.train
    stays = np.flatnonzero(~np.isin(train.targets, [known.index(name) for name in named]))
    if not len(stays):
        raise UsageError("distillation.leave_out leaves no sample to learn from; name fewer classes")
    weights = None if train.weights is None else train.weights[stays]
    part = replace(
        train, inputs=train.inputs[stays], targets=train.targets[stays], weights=weights, indices=train.indices[stays]
    )
    return replace(prepared, train=part)
