"""Logits matched as they are: the limit of soft targets at a high temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.distillation.losses import OutputLoss

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.data.raw import Task
    from modelopt_cli.distillation.loss_inputs import LossInputs


@final
class MseLogits(OutputLoss):
    """Mean squared difference of the logits of student and teacher (Kim et al., IJCAI 2021, section 3)."""

    tasks: ClassVar[tuple[Task, ...]] = ("classification", "multilabel")

    def compare(self, student: Tensor, teacher: Tensor, inputs: LossInputs) -> Tensor:
        """Mean over classes and over the batch."""
        return inputs.mean((student - teacher).square().mean(1))
