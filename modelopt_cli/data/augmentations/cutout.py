"""Blotting out a square."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.core.types import Count, Fraction
from modelopt_cli.data.augmentations import Augmentation

if TYPE_CHECKING:
    import torch

__all__ = ["Cutout"]


@final
class Cutout(Augmentation):
    """Cutout: one square of each image is set to the mean colour (DeVries and Taylor 2017)."""

    size: Count = Field(8, description="Side of the square in pixels; it may reach over the border.")
    probability: Fraction = Field(1.0, description="Share of images that are cut.")

    def apply(
        self, images: torch.Tensor, targets: torch.Tensor, random: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The square's middle is any pixel, from random[:, :2]; random[:, 2] decides whether."""
        rows = self._covered(images.shape[2], random[:, 0])[:, None, :, None]
        columns = self._covered(images.shape[3], random[:, 1])[:, None, None, :]
        chosen = (random[:, 2] < self.probability)[:, None, None, None]
        return images.masked_fill(rows & columns & chosen, 0.0), targets

    def _covered(self, length: int, random: torch.Tensor) -> torch.Tensor:
        """(B, length): whether the square covers a row or column."""
        import torch

        first = (random * length).long().clamp(max=length - 1) - self.size // 2  # (B,)
        positions = torch.arange(length, device=random.device)
        return (positions >= first[:, None]) & (positions < first[:, None] + self.size)
