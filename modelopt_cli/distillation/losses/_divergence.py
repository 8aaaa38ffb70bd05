"""Comparing distributions: the only place where the conventions of the Kullback-Leibler divergence are written.

KL(teacher || student) is summed over the classes of each sample; whoever calls takes the mean over the batch. All is
computed in log space, so that no probability is ever rounded to 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor


def kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(p || q), (B,), of log-probabilities of teacher and student, (B, K)."""
    return (teacher.exp() * (teacher - student)).sum(1)


def softened(logits: Tensor, temperature: float) -> Tensor:
    """Log-probabilities (B, K) of logits at a temperature."""
    return F.log_softmax(logits / temperature, 1)


def binary_kl(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Sum over labels of the KL of Bernoulli distributions, (B,), from logits (B, K)."""
    teacher, student = teacher / temperature, student / temperature
    positive = F.logsigmoid(teacher)
    share = positive.exp()
    return (
        share * (positive - F.logsigmoid(student)) + (1 - share) * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    ).sum(1)


def standardized(logits: Tensor) -> Tensor:
    """Each sample's logits with mean 0 and deviation 1 (Sun et al., CVPR 2024, algorithm 1; their epsilon), (B, K).

    Logits that are equal up to rounding, as those of a head that starts from zeros, keep their scale: divided by
    nothing but the epsilon, their gradient would be near 10^7.
    """
    deviation = logits.std(1, keepdim=True)
    varies = deviation > 1e-6 * logits.detach().abs().amax(1, keepdim=True)
    return (logits - logits.mean(1, keepdim=True)) / (deviation.where(varies, 1.0) + 1e-7)
