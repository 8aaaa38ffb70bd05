"""A model that was pruned before: its masks and kept units, which further training and pruning keep.

Each function takes a model section; one that names no saved model (`model: {type: checkpoint}`) was not pruned before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.models.architectures import Architecture


def earlier_masks(model: Architecture, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The masks in the model.pt that the section names; none for other models."""
    saved = model.saved()
    if saved is None:
        return {}
    from modelopt_cli.models.files.packed import unpack_masks

    return unpack_masks(saved.extra.get("masks", {}), weights)


def earlier_units(model: Architecture) -> Any:
    """Which of its architecture's units that model.pt keeps, as a checkpoint holds it; None: all."""
    saved = model.saved()
    return None if saved is None else saved.extra.get("slimming")


def underlying(model: Architecture) -> Architecture:
    """The architecture that the section stands for, so that what is saved needs no other file."""
    saved = model.saved()
    return model if saved is None else saved.architecture
