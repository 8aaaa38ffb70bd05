"""Taking units out of a module that a program holds, on samples that it gives: no experiment, no training, no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError

from modelopt_cli.core.errors import UsageError
from modelopt_cli.pruning.settings import PruningSettings
from modelopt_cli.pruning.structures import UnitStructure
from modelopt_cli.results.report import Table
from modelopt_cli.training.batches import Batch
from modelopt_cli.training.losses import make
from modelopt_cli.training.settings import TrainingSettings
from modelopt_cli.workflows import slim_tables
from modelopt_cli.workflows.shrinking import Shrinking
from modelopt_cli.workflows.unit_budget import FINAL

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.data.raw import Task

_BATCH = 128


@dataclass(frozen=True)
class Shrunk:
    """The smaller module, what was done to it (`groups`: units before and left), and what the user should know."""

    module: nn.Module
    groups: Table
    warnings: tuple[str, ...]


def shrink(
    module: nn.Module,
    inputs: Tensor,
    pruning: Mapping[str, Any],
    *,
    targets: Tensor | None = None,
    task: Task = "classification",
) -> Shrunk:
    """Take units out of a copy of `module` (B, ...) -> (B, outputs); the module itself stays as it is.

    `inputs`: (N, ...) calibration samples as the module takes them, at least 2; `targets`: (N,) classes or (N, outputs)
    numbers, for what looks at the loss. `pruning`: options as in an experiment's pruning section, structure neurons by
    default; it says how much goes at once, so there is no schedule and no recovery. Raises UsageError.
    """
    settings = _settings(pruning)
    copy = deepcopy(module)
    if targets is None:
        targets = torch.zeros(len(inputs), dtype=torch.int64 if task == "classification" else torch.float32)
    with torch.no_grad():
        outputs = copy.eval()(inputs[:1])
    loss = make(TrainingSettings(), task, outputs.shape[-1], np.asarray(targets.cpu()), inputs.device).plain
    calibration, wanted = inputs[: settings.calibration], targets.to(inputs.device)

    def samples(count: int) -> Sequence[Batch]:
        ends = range(0, min(count, len(calibration)), _BATCH)
        return [_batch(calibration, wanted, start, min(start + _BATCH, count, len(calibration))) for start in ends]

    shrinking = Shrinking(settings, copy, samples, loss, task)
    target = settings.threshold if settings.threshold is not None else settings.amount
    if settings.budget is not None and settings.budget.of == "size_bytes":
        shrinking.note_file(shrinking.network.costs.tensor_bytes({}))
    _, found = shrinking.prune(FINAL if target is None else target, copy)
    table = slim_tables.groups(shrinking.network, shrinking.groups, shrinking.spared)
    return Shrunk(found.train(module.training), table, tuple(shrinking.warnings))


def _batch(inputs: Tensor, targets: Tensor, start: int, end: int) -> Batch:
    return Batch(inputs[start:end], targets[start:end], None, torch.arange(start, end))


def _settings(pruning: Mapping[str, Any]) -> PruningSettings:
    try:
        settings = PruningSettings.model_validate({"structure": "neurons", **pruning})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "pruning"
        raise UsageError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
    if not isinstance(settings.structure, UnitStructure):
        raise UsageError(f"structure {settings.structure.name()} sets zeros; shrink takes units out: use neurons")
    for name in ("recovery", "schedule"):
        if name in settings.model_fields_set:
            raise UsageError(f"pruning.{name} needs training; shrink prunes once: leave it out, or use prune")
    return settings
