"""Mirroring left to right."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.core.types import Fraction
from modelopt_cli.data.augmentations import Augmentation

if TYPE_CHECKING:
    import torch

__all__ = ["Flip"]


@final
class Flip(Augmentation):
    """Horizontal flip of some images."""

    probability: Fraction = Field(0.5, description="Share of images that are flipped.")

    def apply(
        self, images: torch.Tensor, targets: torch.Tensor, random: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mirrors the last axis where random[:, 0] < probability."""
        chosen = (random[:, 0] < self.probability)[:, None, None, None]
        return images.flip(-1).where(chosen, images), targets
