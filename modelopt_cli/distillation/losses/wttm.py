"""Transformed teacher matching, with more weight on the samples of which the teacher is less sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.core.types import Positive
from modelopt_cli.distillation.losses import OutputLoss

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.distillation.loss_inputs import LossInputs


@final
class Wttm(OutputLoss):
    """Sum of p^(1/T) times KL(teacher at T || student at 1): weighted TTM (Zheng & Yang, ICLR 2024, section 4).

    p are the teacher's probabilities at temperature 1; their power sum is 1 for a sure teacher (T > 1), and up to
    K^(1 - 1/T) for an unsure one. The weights do not sum to 1, as in the authors' code.
    """

    temperature: Positive = Field(5.0, description="What the teacher's logits are divided by (1 / gamma in the paper).")

    def compare(self, student: Tensor, teacher: Tensor, inputs: LossInputs) -> Tensor:
        """Sum over classes, mean over the batch."""
        from modelopt_cli.distillation.losses._divergence import kl, softened

        power_sum = (softened(teacher, 1.0) / self.temperature).logsumexp(1).exp()  # (B,)
        return inputs.mean(power_sum * kl(softened(teacher, self.temperature), softened(student, 1.0)))
