"""Augmentations of training images, deterministic by (seed, epoch, index). One file each."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from modelopt_cli.core.strategy import Strategy

if TYPE_CHECKING:
    import torch

__all__ = ["Augmentation"]


class Augmentation(Strategy):
    """Base of all augmentations."""

    family: ClassVar[str] = "augmentations"
    needs_images: ClassVar[bool] = True
    """False: samples of any shape will do."""
    needs_soft_targets: ClassVar[bool] = False
    """True: targets must be (B, outputs); class indices are made one-hot before."""

    @abstractmethod
    def apply(
        self, images: torch.Tensor, targets: torch.Tensor, random: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Augmented images and targets.

        images: (B, C, H, W) on the device, normalised; targets: (B,) classes or (B, classes) soft targets.
        random: (B, 8) uniform numbers in [0, 1) that depend on (seed, epoch, sample index, augmentation) alone.
        """
