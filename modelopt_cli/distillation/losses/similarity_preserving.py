"""Samples that are alike to the teacher shall be alike to the student."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from modelopt_cli.distillation.losses import FeatureLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from modelopt_cli.distillation.loss_inputs import FeatureShapes, LossInputs


@final
class SimilarityPreserving(FeatureLoss):
    """Squared difference of similarity matrices, rows of norm 1, over B² (Tung & Mori, ICCV 2019, section 3).

    Features are flattened and may differ in shape. All samples of the batch count alike, whatever their weights.
    """

    def init(self, shapes: FeatureShapes, seed: int) -> None:
        """Nothing is kept. Raises UsageError where there are not as many taps in the teacher."""
        from modelopt_cli.distillation.losses._features import pairs

        pairs(shapes, "similarity_preserving", alike=False)

    def compare(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor], inputs: LossInputs, state: nn.Module | None
    ) -> Tensor:
        """Mean over the pairs of samples."""
        import torch

        values = [
            (_similarity(student) - _similarity(teacher)).square().mean()
            for student, teacher in zip(students, teachers, strict=True)
        ]
        return torch.stack(values).sum()


def _similarity(feature: Tensor) -> Tensor:
    """(B, B)."""
    from modelopt_cli.distillation.losses._features import normalized, scaled

    flat = scaled(feature.flatten(1), (0, 1))
    return normalized(flat @ flat.T, 1)
