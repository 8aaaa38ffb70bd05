"""Applying a list of augmentations to a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

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
    classes: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and targets after all `augmentations`, in their order.

    images: (B, C, H, W), normalised; targets: (B,) classes or (B, outputs); indices: (B,) int64 positions of the
    samples in the data set, on the images' device. `classes` turns class targets into (B, classes) shares where an
    augmentation mixes them.
    """
    for stream, augmentation in enumerate(augmentations):
        if augmentation.needs_soft_targets and targets.ndim == 1:
            targets = torch.nn.functional.one_hot(targets, classes or -1).to(images.dtype)
        images, targets = augmentation.apply(images, targets, uniform(seed, epoch, indices, stream))
    return images, targets
