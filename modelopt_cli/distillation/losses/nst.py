"""What a neuron selects: the patterns of positions at which channels are active, as a distribution over channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from modelopt_cli.distillation.losses import FeatureLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from modelopt_cli.distillation.loss_inputs import FeatureShapes, LossInputs


@final
class Nst(FeatureLoss):
    """Squared MMD of channel patterns under the kernel (a·b)²: neuron selectivity (Huang & Wang, 2017, section 4).

    A pattern is one channel's activity over the positions, of norm 1. Channels may differ in number; maps that differ
    in size are averaged down to the smaller. Published weights are near 50.
    """

    def init(self, shapes: FeatureShapes, seed: int) -> None:
        """Nothing is kept. Raises UsageError where features have no positions, or different ones."""
        from modelopt_cli.distillation.losses._features import POSITIONED, pairs

        pairs(shapes, "nst", POSITIONED)

    def compare(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor], inputs: LossInputs, state: nn.Module | None
    ) -> Tensor:
        """Means over pairs of channels, and over the batch."""
        import torch

        from modelopt_cli.distillation.losses._features import matched, normalized

        values = []
        for student, teacher in matched(students, teachers):
            a, b = normalized(student, 1), normalized(teacher, 1)  # (B, P, C), (B, P, C')
            values.append(_kernel(a, a) + _kernel(b, b) - 2 * _kernel(a, b))
        return inputs.mean(torch.stack(values).sum(0))


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """Mean over pairs of channels of their squared scalar products, (B,)."""
    return (a.transpose(1, 2) @ b).square().mean((1, 2))
