"""Mixing pairs of samples and their targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from pydantic import Field

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.types import Positive
from modelopt_cli.data.augmentations import Augmentation

if TYPE_CHECKING:
    import torch

__all__ = ["Mixup"]


@final
class Mixup(Augmentation):
    """mixup: convex mixtures of two samples and of their targets (Zhang et al. 2018).

    The partner of sample i of a batch is sample B - 1 - i, so that a result depends on how the batch is composed (which
    is itself fixed by seed and epoch); the mixing share depends on (seed, epoch, index) alone.
    """

    needs_images: ClassVar[bool] = False
    needs_soft_targets: ClassVar[bool] = True

    alpha: Positive = Field(0.2, description="The share is drawn from Beta(alpha, alpha); 1: uniformly.")

    def apply(
        self, images: torch.Tensor, targets: torch.Tensor, random: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """share * sample + (1 - share) * partner; the share is Beta's quantile at random[:, 0]."""
        from modelopt_cli.data.augmentations._beta import beta_quantile

        if targets.ndim != 2:
            raise UsageError(f"mixup needs soft targets (B, outputs), but got shape {tuple(targets.shape)}")
        share = beta_quantile(random[:, 0], self.alpha).to(images.dtype)  # (B,)
        wide = share.view(-1, *[1] * (images.ndim - 1))
        tall = share[:, None].to(targets.dtype)
        return images * wide + images.flip(0) * (1 - wide), targets * tall + targets.flip(0) * (1 - tall)
