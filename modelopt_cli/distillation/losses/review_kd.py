"""Review: deep features of the student, fused with shallow ones, learn from the teacher's shallow features too."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, final

from modelopt_cli.distillation.losses import FeatureLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from modelopt_cli.distillation.loss_inputs import FeatureShapes, LossInputs
    from modelopt_cli.distillation.losses._review_kd import Review


@final
class ReviewKd(FeatureLoss):
    """Knowledge review: attention-based fusion and hierarchical context loss (Chen et al., CVPR 2021, section 3.3-3.4).

    Taps go from shallow to deep: maps, and vectors as maps of one position. From the deepest on, each is fused with
    what came from the deeper ones, then compared with the teacher's at the same tap at several sizes.
    """

    def init(self, shapes: FeatureShapes, seed: int) -> nn.Module:
        """The fusions. Raises UsageError where features are tokens, or of different kinds."""
        from modelopt_cli.distillation.losses._features import pairs
        from modelopt_cli.distillation.losses._review_kd import Review

        taps = pairs(shapes, "review_kd", (1, 3))
        return Review([(student[0], teacher[0]) for student, teacher in taps]).to(shapes.targets.device)

    def compare(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor], inputs: LossInputs, state: nn.Module | None
    ) -> Tensor:
        """Mean over channels, positions and the batch."""
        review = cast("Review", state)
        return inputs.mean(review([_maps(one) for one in students], [_maps(one) for one in teachers]))


def _maps(feature: Tensor) -> Tensor:
    """(B, C, H, W)."""
    return feature[:, :, None, None] if feature.ndim == 2 else feature
