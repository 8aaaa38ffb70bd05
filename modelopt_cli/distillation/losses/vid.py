"""Mutual information: the teacher's features as a Gaussian around what the student's predict."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, final

from pydantic import Field

from modelopt_cli.core.types import Positive
from modelopt_cli.distillation.losses import FeatureLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from modelopt_cli.distillation.loss_inputs import FeatureShapes, LossInputs


@final
class Vid(FeatureLoss):
    """Negative log-likelihood of the teacher's features given the student's (Ahn et al., CVPR 2019, section 2).

    (t - mu(s))² / (2 sigma²) + log sigma, without its constant: it may be negative. mu is three linear layers at each
    position (1x1 convolutions of maps), as in the authors' code; sigma² is learnt for each channel. Maps that differ in
    size are averaged down to the smaller.
    """

    variance: Positive = Field(5.0, description="What sigma² of every channel starts from.")

    def init(self, shapes: FeatureShapes, seed: int) -> nn.Module:
        """One Gaussian a tap. Raises UsageError where features are of different kinds."""
        from torch import nn

        from modelopt_cli.distillation.losses._features import channels, pairs
        from modelopt_cli.distillation.losses._vid import Gaussian

        gaussians = [
            Gaussian(channels(student), channels(teacher), self.variance) for student, teacher in pairs(shapes, "vid")
        ]
        return nn.ModuleList(gaussians).to(shapes.targets.device)

    def compare(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor], inputs: LossInputs, state: nn.Module | None
    ) -> Tensor:
        """Mean over channels, positions and the batch."""
        import torch

        from modelopt_cli.distillation.losses._features import matched

        gaussians = cast("nn.ModuleList", state)
        values = [
            gaussian(*features) for gaussian, features in zip(gaussians, matched(students, teachers), strict=True)
        ]
        return inputs.mean(torch.stack(values).sum(0))
