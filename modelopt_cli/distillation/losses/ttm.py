"""Only the teacher is softened: its distribution is transformed, the student's is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.core.types import Positive
from modelopt_cli.distillation.losses import OutputLoss

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.distillation.loss_inputs import LossInputs


@final
class Ttm(OutputLoss):
    """KL(teacher at T || student at 1): transformed teacher matching (Zheng & Yang, ICLR 2024, section 3).

    No T², as the student's logits are not divided: against soft_targets this adds the student's Rényi entropy. It is 0
    only where the student itself is as soft as the softened teacher.
    """

    temperature: Positive = Field(5.0, description="What the teacher's logits are divided by (1 / gamma in the paper).")

    def compare(self, student: Tensor, teacher: Tensor, inputs: LossInputs) -> Tensor:
        """Sum over classes, mean over the batch."""
        from modelopt_cli.distillation.losses._divergence import kl, softened

        return inputs.mean(kl(softened(teacher, self.temperature), softened(student, 1.0)))
