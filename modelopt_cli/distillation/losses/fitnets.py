"""Hints: the student's features, projected, shall be the teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, final

from modelopt_cli.distillation.losses import FeatureLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from modelopt_cli.distillation.loss_inputs import FeatureShapes, LossInputs


@final
class Fitnets(FeatureLoss):
    """Mean squared difference of the teacher's features and the student's, projected (Romero et al., ICLR 2015, eq. 3).

    The projector is linear and learnt: a 1x1 convolution of maps, one matrix for all tokens. Maps that differ in size
    are averaged down to the smaller, and the mean stands for the paper's half of the sum.
    """

    def init(self, shapes: FeatureShapes, seed: int) -> nn.Module:
        """One projector a tap. Raises UsageError where features are of different kinds."""
        from torch import nn

        from modelopt_cli.distillation.losses._features import channels, pairs

        projectors = [nn.Linear(channels(student), channels(teacher)) for student, teacher in pairs(shapes, "fitnets")]
        return nn.ModuleList(projectors).to(shapes.targets.device)

    def compare(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor], inputs: LossInputs, state: nn.Module | None
    ) -> Tensor:
        """Mean over channels, positions and the batch."""
        import torch

        from modelopt_cli.distillation.losses._features import matched

        projectors = cast("nn.ModuleList", state)
        values = [
            (projector(student) - teacher).square().mean((1, 2))
            for projector, (student, teacher) in zip(projectors, matched(students, teachers), strict=True)
        ]
        return inputs.mean(torch.stack(values).sum(0))
