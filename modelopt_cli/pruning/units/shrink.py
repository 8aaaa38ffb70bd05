"""Taking units out of a module that a program holds, on samples that it gives: no experiment, no training, no files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from modelopt_cli.core.errors import UsageError
from modelopt_cli.pruning.settings import PruningSettings
from modelopt_cli.pruning.structures import UnitStructure
from modelopt_cli.results.report import Table

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.data.raw import Task
    from modelopt_cli.training.batches import Batch
    from modelopt_cli.training.losses import Loss

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
    from modelopt_cli.models.duplicates import duplicate
    from modelopt_cli.pruning.units.budget import FINAL
    from modelopt_cli.pruning.units.session import UnitPruningSession

    settings, copy = _settings(pruning), duplicate(module)
    session = UnitPruningSession(
        settings, copy, _samples(inputs, targets, settings.calibration), _loss(targets, task), task
    )
    target = settings.threshold if settings.threshold is not None else settings.amount
    if settings.budget is not None and settings.budget.of == "size_bytes":
        session.note_file(session.network.costs.tensor_bytes({}))
    _, smaller = session.prune(FINAL if target is None else target, copy)
    return Shrunk(smaller.train(module.training), session.groups_table(), tuple(session.warnings))


def _samples(inputs: Tensor, targets: Tensor | None, most: int) -> Callable[[int], Sequence[Batch]]:
    """What gives so many of the samples, `most` at most. Raises UsageError where targets are not theirs."""
    import torch

    from modelopt_cli.training.batches import Batch

    if targets is not None and len(targets) != len(inputs):
        raise UsageError(f"there are {len(inputs)} inputs, but {len(targets)} targets; give one for each sample")
    wanted = torch.zeros(len(inputs), device=inputs.device) if targets is None else targets.to(inputs.device)

    def samples(count: int) -> Sequence[Batch]:
        end = min(count, most, len(inputs))
        parts = [slice(start, min(start + _BATCH, end)) for start in range(0, end, _BATCH)]
        return [Batch(inputs[part], wanted[part], None, torch.arange(part.start, part.stop)) for part in parts]

    return samples


def _loss(targets: Tensor | None, task: Task) -> Loss:
    from modelopt_cli.training.losses import make
    from modelopt_cli.training.settings import TrainingSettings

    if targets is not None:
        # How many outputs there are matters for weights of classes alone, and there are none.
        return make(TrainingSettings(), task, 0, targets.cpu().numpy(), targets.device).plain

    def missing(*_: Tensor | None) -> Tensor:
        raise UsageError(
            "pruning.importance or pruning.allocation looks at the loss, which takes targets; give them "
            "(targets=...), or use one that looks at weights or outputs, such as importance obs"
        )

    return missing


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
