"""Correlation in place of divergence: what the student must keep are the relations of a stronger teacher's outputs."""

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
class Dist(OutputLoss):
    """1 - Pearson correlation of probabilities, over classes and over samples (Huang et al., NeurIPS 2022, section 3).

    As in the paper, no T²: a correlation has no scale. The authors' code multiplies by T², so its published recipe at
    T = 4 has 16 times the weight here. Over samples (intra-class) all of the batch count alike; correlation with
    what does not vary (such as a batch of one) counts as 0.
    """

    beta: Weight = Field(1.0, description="Weight of the relations between the classes of each sample.")
    gamma: Weight = Field(1.0, description="Weight of the relations between the samples of the batch, class by class.")
    temperature: Positive = Field(1.0, description="What logits are divided by.")

    def compare(self, student: Tensor, teacher: Tensor, inputs: LossInputs) -> Tensor:
        """Mean over the batch (between classes) and over classes (between samples)."""
        student, teacher = (student / self.temperature).softmax(1), (teacher / self.temperature).softmax(1)
        between_classes = inputs.mean(1 - correlation(student, teacher))
        between_samples = (1 - correlation(student.T, teacher.T)).mean()
        return self.beta * between_classes + self.gamma * between_samples


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation of each row, (N,), of (N, M)."""
    (a, a_norm), (b, b_norm) = _centred(a), _centred(b)
    return (a * b).sum(1) / (a_norm * b_norm)


def _centred(values: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of mean 0, (N, M), and their norms, (N,): 1 where a row is constant up to rounding, so that 0 is divided."""
    centred = values - values.mean(1, keepdim=True)
    norm = centred.norm(dim=1)
    return centred, norm.where(norm > 1e-6 * values.detach().norm(dim=1) + 1e-8, 1.0)
