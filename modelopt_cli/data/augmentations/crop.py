"""Cropping after padding, as ResNets are trained on CIFAR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

from pydantic import Field

from modelopt_cli.core.types import Count
from modelopt_cli.data.augmentations import Augmentation

if TYPE_CHECKING:
    import torch

__all__ = ["Crop"]


@final
class Crop(Augmentation):
    """Random crop of the original size after padding every side (He et al. 2016, for CIFAR)."""

    padding: Count = Field(4, description="Pixels added on every side.")
    fill: Literal["zero", "reflect"] = Field("zero", description="zero: the mean colour, as images are normalised.")

    def apply(
        self, images: torch.Tensor, targets: torch.Tensor, random: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A window at one of (2 * padding + 1)^2 places, from random[:, :2]."""
        from modelopt_cli.data.augmentations._shift import offsets, shift

        down, right = offsets(random[:, 0], self.padding), offsets(random[:, 1], self.padding)
        return shift(images, down, right, self.fill), targets
