"""A model that was pruned before: its masks and kept units, which further training and pruning keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.models.architectures import Architecture


def earlier_masks(model: Architecture, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The masks in the model.pt that a `model: {type: checkpoint}` section names; none for other models."""
    if model.name() != "checkpoint":
        return {}
    from modelopt_cli.models import checkpoints
    from modelopt_cli.models.packed import unpack_masks

    return unpack_masks(checkpoints.load(_path(model)).extra.get("masks", {}), weights)


def earlier_slimming(model: Architecture) -> Any:
    """What the model.pt that a `model: {type: checkpoint}` section names keeps of its architecture's units, or None.

    As a checkpoint holds it.
    """
    if model.name() != "checkpoint":
        return None
    from modelopt_cli.models import checkpoints

    return checkpoints.load(_path(model)).extra.get("slimming")


def underlying(model: Architecture) -> Architecture:
    """The architecture that a checkpoint section stands for, so that what is saved needs no other file."""
    if model.name() != "checkpoint":
        return model
    from modelopt_cli.models import checkpoints

    return checkpoints.load(_path(model)).architecture


def _path(model: Any) -> str:
    return str(model.path)
