"""A trainer of a module on an experiment's data, device and augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.training.guidance import Guide
    from modelopt_cli.training.hooks import StepHook
    from modelopt_cli.training.settings import TrainingSettings
    from modelopt_cli.training.trainer import Trainer


def trainer_of(
    experiment: Experiment,
    prepared: Prepared,
    module: nn.Module,
    settings: TrainingSettings,
    *,
    seed: int,
    monitor: str | Sequence[str] | None = None,
    hooks: Sequence[StepHook] = (),
    guide: Guide | None = None,
) -> Trainer:
    """`settings` may differ from the experiment's own; the rest is as Trainer has it. Raises UsageError, TrialError."""
    from modelopt_cli.core.device import choose
    from modelopt_cli.training.trainer import Trainer

    return Trainer(
        module,
        settings,
        prepared,
        seed=seed,
        device=choose(experiment.device),
        augment=experiment.require_data().augment,
        monitor=monitor,
        extra_metrics=experiment.evaluation.own,
        hooks=hooks,
        guide=guide,
    )
