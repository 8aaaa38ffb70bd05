"""Applying a list of augmentations to a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from modelopt_cli.core.errors import UsageError
from modelopt_cli.data.augmentations import Augmentation
from modelopt_cli.data.augmentations._random import uniform


def augment(
    augmentations: Sequence[Augmentation],
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    seed: int,
    epoch: int,
    indices: torch.Tensor,
    classes: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and targets after all `augmentations`, in their order.

    images: (B, C, H, W), normalised; targets: (B,) classes or (B, outputs); indices: (B,) int64 positions of the
    samples in the data set, on any device. Class targets become (B, classes) shares where an augmentation mixes them.
    Raises UsageError where an augmentation cannot be applied to samples of this shape.
    """
    for stream, augmentation in enumerate(augmentations):
        check_shape(augmentation, tuple(images.shape[1:]))
        if augmentation.needs_soft_targets and targets.ndim == 1:
            targets = torch.nn.functional.one_hot(targets, classes).to(images.dtype)
        random = uniform(seed, epoch, indices, stream).to(images.device)
        images, targets = augmentation.apply(images, targets, random)
    return images, targets


def check_shape(augmentation: Augmentation, shape: tuple[int, ...]) -> None:
    """Raises UsageError where `augmentation` moves pixels and one sample, of this shape, has none."""
    if augmentation.needs_images and len(shape) != 3:
        raise UsageError(
            f"augmentation '{augmentation.name()}' needs images (channels, height, width), but a sample has shape "
            f"{shape}; remove it from data.augment (or, for digits, set 'shape: image')"
        )
