"""Relations between samples: distances of pairs, and angles of triplets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, final

from pydantic import Field

from modelopt_cli.distillation.losses import FeatureLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from modelopt_cli.distillation.loss_inputs import FeatureShapes, LossInputs

Weight = Annotated[float, Field(ge=0.0)]


@final
class Rkd(FeatureLoss):
    """Huber loss of the distances and angles between samples (relational, Park et al., CVPR 2019, section 3.2).

    Distances are in units of their mean over the batch. Features are flattened and may differ in shape. Means are over
    all B² pairs and B³ triplets, as in the authors' code, which takes memory of B³ values. All samples of the batch
    count alike, whatever their weights.
    """

    distance: Weight = Field(25.0, description="Weight of the distances between two samples.")
    angle: Weight = Field(50.0, description="Weight of the angles between three samples; 0 saves B³ values of memory.")

    def init(self, shapes: FeatureShapes, seed: int) -> None:
        """Nothing is kept. Raises UsageError where there are not as many taps in the teacher."""
        from modelopt_cli.distillation.losses._features import pairs

        pairs(shapes, "rkd", alike=False)

    def compare(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor], inputs: LossInputs, state: nn.Module | None
    ) -> Tensor:
        """Means over pairs and triplets of samples."""
        import torch

        return torch.stack([self._of_tap(*pair) for pair in zip(students, teachers, strict=True)]).sum()

    def _of_tap(self, student: Tensor, teacher: Tensor) -> Tensor:
        from torch.nn import functional as F

        a, b = _distances(student), _distances(teacher)
        value = self.distance * F.smooth_l1_loss(a, b)
        return value + self.angle * F.smooth_l1_loss(_angles(a), _angles(b)) if self.angle else value


def _distances(feature: Tensor) -> Tensor:
    """(B, B), in units of the mean distance of samples that differ."""
    import torch

    flat = feature.flatten(1)
    distances = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")  # differences, so 0 where equal
    mean = distances.sum() / (distances > 0).sum().clamp_min(1)
    return distances / mean.where(mean > 0, 1.0)


def _angles(distances: Tensor) -> Tensor:
    """Cosine of the angle at j between i and k, (B, B, B) as [j, i, k], by the law of cosines; 0 where sides vanish."""
    squares = distances.square()
    sides = distances.unsqueeze(2) * distances.unsqueeze(1)
    scalar_products = (squares.unsqueeze(2) + squares.unsqueeze(1) - squares.unsqueeze(0)) / 2
    return (scalar_products / sides.where(sides > 0, 1.0)).where(sides > 0, 0.0)
