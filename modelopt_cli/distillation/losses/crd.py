"""Contrast: of a sample's student and teacher features, each is told from those of other samples by the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast, final

from pydantic import Field

from modelopt_cli.core.types import Count, Fraction, Positive
from modelopt_cli.distillation.losses import FeatureLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from modelopt_cli.distillation.loss_inputs import FeatureShapes, LossInputs


@final
class Crd(FeatureLoss):
    """Contrastive representation distillation by noise-contrastive estimation (Tian et al., ICLR 2020, section 3.1).

    Both features, averaged over positions, are embedded linearly. A memory holds all samples' embeddings. Negatives are
    drawn from it with replacement: samples of other classes, or any other samples where targets are no classes. It
    relies on what a sample is, so it does not go with mixup. Published with a weight of 0.8.
    """

    knows_samples: ClassVar[bool] = True

    dimensions: Count = Field(128, description="Dimensions of the embeddings.")
    negatives: Count = Field(16384, description="Negatives drawn for each sample of a batch.")
    temperature: Positive = Field(0.07, description="What scalar products of embeddings are divided by.")
    momentum: Fraction = Field(0.5, description="Share of the old embedding when the memory is renewed.")

    def init(self, shapes: FeatureShapes, seed: int) -> nn.Module:
        """Embeddings and memory, one pair a tap. Raises UsageError where all samples are of one class."""
        from torch import nn

        from modelopt_cli.distillation.losses._crd import Contrast
        from modelopt_cli.distillation.losses._features import channels, pairs

        contrasts = [
            Contrast(
                channels(student),
                channels(teacher),
                shapes,
                dimensions=self.dimensions,
                negatives=self.negatives,
                temperature=self.temperature,
                momentum=self.momentum,
            )
            for student, teacher in pairs(shapes, "crd", alike=False)
        ]
        return nn.ModuleList(contrasts).to(shapes.targets.device)

    def compare(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor], inputs: LossInputs, state: nn.Module | None
    ) -> Tensor:
        """Mean over the batch. Renews the memory of its samples."""
        import torch

        from modelopt_cli.distillation.losses._features import positions

        contrasts = cast("nn.ModuleList", state)
        values = [
            contrast(positions(student).mean(1), positions(teacher).mean(1), inputs.indices)
            for contrast, student, teacher in zip(contrasts, students, teachers, strict=True)
        ]
        return inputs.mean(torch.stack(values).sum(0))
