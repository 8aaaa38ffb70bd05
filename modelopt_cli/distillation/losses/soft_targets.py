"""The first distillation loss: the teacher's softened probabilities as targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from pydantic import Field

from modelopt_cli.core.types import Positive
from modelopt_cli.distillation.losses import OutputLoss

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.data.raw import Task
    from modelopt_cli.distillation.loss_inputs import LossInputs


@final
class SoftTargets(OutputLoss):
    """T² KL(teacher || student) of outputs softened by a temperature (Hinton et al., 2015, section 2)."""

    tasks: ClassVar[tuple[Task, ...]] = ("classification", "multilabel")

    temperature: Positive = Field(4.0, description="What logits are divided by.")

    def compare(self, student: Tensor, teacher: Tensor, inputs: LossInputs) -> Tensor:
        """Sum over classes (labels: of Bernoulli distributions), mean over the batch."""
        from modelopt_cli.distillation.losses._divergence import binary_kl, kl, softened

        if inputs.task == "multilabel":
            values = binary_kl(teacher, student, self.temperature)
        else:
            values = kl(softened(teacher, self.temperature), softened(student, self.temperature))
        return self.temperature**2 * inputs.mean(values)
