"""Decoupled knowledge distillation: the target class and the others each have a weight of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, final

from pydantic import Field

from modelopt_cli.core.types import Positive
from modelopt_cli.distillation.losses import OutputLoss

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.distillation.loss_inputs import LossInputs

Weight = Annotated[float, Field(ge=0.0)]


@final
class Dkd(OutputLoss):
    """T² (alpha TCKD + beta NCKD): target class and other classes apart (Zhao et al., CVPR 2022, section 3).

    TCKD is the KL of the target class against all others, NCKD that among the others. Soft targets (mixup) count as
    the class with the largest share. Published with a weight that warms up over the first 20 of 240 epochs.
    """

    alpha: Weight = Field(1.0, description="Weight of the target class against the others.")
    beta: Weight = Field(8.0, description="Weight of the classes other than the target.")
    temperature: Positive = Field(4.0, description="What logits are divided by.")

    def compare(self, student: Tensor, teacher: Tensor, inputs: LossInputs) -> Tensor:
        """Mean over the batch."""
        from modelopt_cli.distillation.losses._divergence import binary_kl, kl, softened

        targets = inputs.targets.argmax(1) if inputs.targets.ndim == 2 else inputs.targets
        student_odds, student_others = _parts(student / self.temperature, targets)
        teacher_odds, teacher_others = _parts(teacher / self.temperature, targets)
        target = binary_kl(teacher_odds, student_odds, 1.0)
        others = kl(softened(teacher_others, 1.0), softened(student_others, 1.0))
        return self.temperature**2 * inputs.mean(self.alpha * target + self.beta * others)


def _parts(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-odds of the target class, (B, 1), and the logits of the other classes, (B, K - 1)."""
    import torch

    others = torch.arange(logits.shape[1] - 1, device=logits.device).expand(len(logits), -1)
    others = logits.gather(1, others + (others >= targets.unsqueeze(1)))
    return logits.gather(1, targets.unsqueeze(1)) - others.logsumexp(1, keepdim=True), others
