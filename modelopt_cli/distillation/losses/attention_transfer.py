"""Where a network looks: the student's maps shall be active at the positions where the teacher's are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, final

from pydantic import Field

from modelopt_cli.distillation.losses import FeatureLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from modelopt_cli.distillation.loss_inputs import FeatureShapes, LossInputs


@final
class AttentionTransfer(FeatureLoss):
    """Squared difference of normalised attention maps (activation-based, Zagoruyko & Komodakis, ICLR 2017, eq. 2).

    An attention map is the sum over channels of |A|^p. As in the authors' code, the square of the difference, averaged
    over positions: small, so that recipes give it a weight near 1000. Channels may differ in number; maps that differ
    in size are averaged down to the smaller.
    """

    exponent: Annotated[float, Field(ge=1.0)] = Field(2.0, description="p: the higher, the more the peaks count.")

    def init(self, shapes: FeatureShapes, seed: int) -> None:
        """Nothing is kept. Raises UsageError where features have no positions, or different ones."""
        from modelopt_cli.distillation.losses._features import POSITIONED, pairs

        pairs(shapes, "attention_transfer", POSITIONED)

    def compare(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor], inputs: LossInputs, state: nn.Module | None
    ) -> Tensor:
        """Mean over positions and over the batch."""
        import torch

        from modelopt_cli.distillation.losses._features import matched

        values = [
            (self._attention(student) - self._attention(teacher)).square().mean(1)
            for student, teacher in matched(students, teachers)
        ]
        return inputs.mean(torch.stack(values).sum(0))

    def _attention(self, feature: Tensor) -> Tensor:
        """(B, P), of norm 1, from (B, P, C)."""
        from modelopt_cli.distillation.losses._features import normalized, scaled

        return normalized(scaled(feature, (1, 2)).abs().pow(self.exponent).mean(2), 1)
