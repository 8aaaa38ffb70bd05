"""A model that was pruned before: its masks and kept units, which further training and pruning keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.models.architectures import Architecture
    from modelopt_cli.models.files.checkpoints import Checkpoint


def earlier_masks(model: Architecture, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The masks in the model.pt that a `model: {type: checkpoint}` section names; none for other models."""
    if model.name() != "checkpoint":
        return {}
    from modelopt_cli.models.files.packed import unpack_masks

    return unpack_masks(_loaded(model).extra.get("masks", {}), weights)


def earlier_units(model: Architecture) -> Any:
    """What the model.pt that a `model: {type: checkpoint}` section names keeps of its architecture's units, or None.

    As a checkpoint holds it.
    """
    if model.name() != "checkpoint":
        return None
    return _loaded(model).extra.get("slimming")


def underlying(model: Architecture) -> Architecture:
    """The architecture that a checkpoint section stands for, so that what is saved needs no other file."""
    if model.name() != "checkpoint":
        return model
    return _loaded(model).architecture


def _loaded(model: Any) -> Checkpoint:
    from modelopt_cli.models.files import checkpoints

    return checkpoints.load(model.path, model.consent)
