"""Small random moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

from pydantic import Field

from modelopt_cli.core.types import Count
from modelopt_cli.data.augmentations import Augmentation

if TYPE_CHECKING:
    import torch

__all__ = ["Jitter"]


@final
class Jitter(Augmentation):
    """Random shift by whole pixels, up to a number in each direction."""

    pixels: Count = Field(1, description="Most pixels to move, up, down, left and right.")
    fill: Literal["zero", "edge"] = Field("zero", description="What moves in; zero: the mean colour. edge: repeated.")

    def apply(
        self, images: torch.Tensor, targets: torch.Tensor, random: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Moves down and right by -pixels to pixels, from random[:, :2]."""
        from modelopt_cli.data.augmentations._shift import offsets, shift

        down, right = offsets(random[:, 0], self.pixels), offsets(random[:, 1], self.pixels)
        return shift(images, down, right, self.fill), targets
