"""The true targets, beside what the teacher says."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.distillation.losses import DistillationLoss

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.distillation.loss_inputs import LossInputs


@final
class Labels(DistillationLoss):
    """The training section's own loss on the true targets, with its label smoothing and class weights."""

    needs_teacher: ClassVar[bool] = False

    def loss(self, inputs: LossInputs, state: nn.Module | None) -> Tensor:
        """See the base class."""
        return inputs.label_loss()
