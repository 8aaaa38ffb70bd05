"""A regression teacher's outputs as targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.distillation.losses import DistillationLoss

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.data.raw import Task
    from modelopt_cli.distillation.loss_inputs import LossInputs


@final
class Mse(DistillationLoss):
    """Mean squared difference of a regression's outputs (Ba & Caruana, NeurIPS 2014, section 2.2).

    Outputs are in units of the train targets' deviation.
    """

    tasks: ClassVar[tuple[Task, ...]] = ("regression",)

    def loss(self, inputs: LossInputs, state: nn.Module | None) -> Tensor:
        """See the base class. Mean over outputs and over the batch."""
        return inputs.mean((inputs.student.float() - inputs.teacher.detach().float()).square().mean(1))
