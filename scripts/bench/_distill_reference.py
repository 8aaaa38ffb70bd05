"""The losses as their papers write them, plainly, with torch alone: probabilities first, then their logarithms.

Names are modelopt's. T: temperature; s, t: features of student and teacher (_distill_loop.py); y: targets (B,).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from _distill_loop import Contender, Features
from torch import Tensor
from torch.nn import functional as F


def kd(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    """RepDistiller's: KLDivLoss summed, times T², over the batch."""
    student, teacher = F.log_softmax(s / temperature, dim=1), F.softmax(t / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="sum") * temperature**2 / len(s)


def standard(logits: Tensor) -> Tensor:
    """Z-scores (Sun et al., algorithm 1)."""
    return (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + 1e-7)


def dkd(s: Tensor, t: Tensor, y: Tensor, alpha: float, beta: float, temperature: float) -> Tensor:
    """Zhao et al., eq. 2, 5 and 7: from b = (p_t, 1 - p_t), and the other classes' probabilities over their sum."""
    mask = F.one_hot(y, s.shape[1]).bool()
    binary, others = [], []
    for logits in (s, t):
        shares = F.softmax(logits / temperature, dim=1)
        target, rest = shares[mask], shares[~mask].reshape(len(s), -1)
        binary.append(torch.stack([target, rest.sum(1)], 1))
        others.append(rest / rest.sum(1, keepdim=True))
    return temperature**2 * (alpha * _kl(*reversed(binary)) + beta * _kl(*reversed(others)))


def _kl(teacher: Tensor, student: Tensor) -> Tensor:
    return (teacher * (teacher / student).log()).sum(1).mean()


def dist(s: Tensor, t: Tensor, beta: float, gamma: float, temperature: float) -> Tensor:
    """Huang et al., eq. 6 to 10."""
    student, teacher = F.softmax(s / temperature, dim=1), F.softmax(t / temperature, dim=1)
    return beta * _apart(student, teacher) + gamma * _apart(student.T, teacher.T)


def _apart(a: Tensor, b: Tensor) -> Tensor:
    count = len(a)
    return 1 - torch.stack([torch.corrcoef(torch.stack([a[row], b[row]]))[0, 1] for row in range(count)]).mean()


def ttm(s: Tensor, t: Tensor, temperature: float, *, weighted: bool) -> Tensor:
    """Zheng & Yang, eq. 11 and 15: the teacher's probabilities to the power 1 / T."""
    power = F.softmax(t, dim=1) ** (1 / temperature)
    total = power.sum(1, keepdim=True)
    shares = power / total
    values = (shares * (shares.log() - F.log_softmax(s, dim=1))).sum(1)
    return (values * total.squeeze(1)).mean() if weighted else values.mean()


def attention(s: Tensor, t: Tensor) -> Tensor:
    """Zagoruyko & Komodakis, in the form of their code."""
    student, teacher = (F.normalize(maps.pow(2).mean(1).flatten(1)) for maps in (s, t))
    return (student - teacher).pow(2).mean()


def similarity(s: Tensor, t: Tensor) -> Tensor:
    """Tung & Mori, eq. 4."""
    student, teacher = (F.normalize(maps.flatten(1) @ maps.flatten(1).T) for maps in (s, t))
    return (student - teacher).pow(2).sum() / len(s) ** 2


def rkd(s: Tensor, t: Tensor) -> Tensor:
    """Park et al., eq. 7 and 10, as in RepDistiller: 25 of distances, 50 of angles."""
    distances, angles = [], []
    for vectors in (s, t):
        edges = vectors.unsqueeze(0) - vectors.unsqueeze(1)  # (B, B, C)
        off = ~torch.eye(len(vectors), dtype=torch.bool)
        lengths = torch.zeros(len(vectors), len(vectors), dtype=vectors.dtype)
        lengths = lengths.masked_scatter(off, edges[off].norm(dim=1))
        distances.append(lengths / lengths[off].mean())
        directions = F.normalize(edges, dim=2)
        angles.append(directions @ directions.transpose(1, 2))
    return 25 * F.smooth_l1_loss(distances[0], distances[1]) + 50 * F.smooth_l1_loss(angles[0], angles[1])


def nst(s: Tensor, t: Tensor) -> Tensor:
    """Huang & Wang, eq. 5 with the kernel (a·b)²."""
    a, b = (F.normalize(maps.flatten(2), dim=2) for maps in (s, t))  # (B, C, P)

    def mean(one: Tensor, other: Tensor) -> Tensor:
        return torch.einsum("bcp,bdp->bcd", one, other).pow(2).mean()

    return mean(a, a) + mean(b, b) - 2 * mean(a, b)


def context(s: Tensor, t: Tensor) -> Tensor:
    """Chen et al., section 3.4: hierarchical context loss of maps of equal shape."""
    value, weight, weights = F.mse_loss(s, t), 1.0, 1.0
    for side in (4, 2, 1):
        if side < s.shape[2]:
            weight /= 2
            weights += weight
            value = value + weight * F.mse_loss(F.adaptive_avg_pool2d(s, side), F.adaptive_avg_pool2d(t, side))
    return value / weights


def _fitnets(start: Mapping[str, Tensor]) -> Contender:
    weight, bias = own_leaf(start["weight"])[:, :, None, None], own_leaf(start["bias"])
    leaves = [weight.detach().requires_grad_(), bias]
    return Contender(lambda s, t, y: F.mse_loss(F.conv2d(s["high"], leaves[0], leaves[1]), t["high"]), leaves)


def _vid(start: Mapping[str, Tensor]) -> Contender:
    """Ahn et al., eq. 6, in RepDistiller's form: three 1x1 convolutions, softplus of a variance a channel."""
    names = [name for name in start if name.endswith("weight")]
    kernels = [own_leaf(start[name])[:, :, None, None].detach().requires_grad_() for name in names]
    scale = own_leaf(next(start[name] for name in start if name.endswith("scale")))

    def formula(s: Features, t: Features, y: Tensor) -> Tensor:
        mean = s["high"]
        for depth, kernel in enumerate(kernels):
            mean = F.conv2d(F.relu(mean) if depth else mean, kernel)
        variance = (F.softplus(scale) + 1e-5).view(1, -1, 1, 1)
        return (0.5 * ((mean - t["high"]) ** 2 / variance + variance.log())).mean()

    return Contender(formula, [*kernels, scale])


def own_leaf(start: Tensor) -> Tensor:
    """A copy that is trained."""
    return start.detach().clone().requires_grad_()


def contenders(start: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Contender]:
    """By the names in distill_formulas.py. `start`: what projectors start from, as modelopt made them."""

    def beside_labels(s: Features, y: Tensor, value: Tensor, weight: float = 1.0) -> Tensor:
        return weight * F.cross_entropy(s["logits"], y) + value

    def of_logits(s: Features, t: Features) -> tuple[Tensor, Tensor]:
        return s["logits"], t["logits"]

    return {
        "soft_targets": Contender(lambda s, t, y: beside_labels(s, y, 0.9 * kd(*of_logits(s, t), 4.0), 0.1)),
        "soft_targets, standardize": Contender(
            lambda s, t, y: beside_labels(s, y, 9 * kd(standard(s["logits"]), standard(t["logits"]), 2.0), 0.1)
        ),
        "dkd": Contender(lambda s, t, y: beside_labels(s, y, dkd(*of_logits(s, t), y, 1.0, 8.0, 4.0))),
        "dist": Contender(lambda s, t, y: beside_labels(s, y, 16 * dist(*of_logits(s, t), 2.0, 2.0, 4.0))),
        "ttm": Contender(lambda s, t, y: beside_labels(s, y, ttm(*of_logits(s, t), 5.0, weighted=False))),
        "wttm": Contender(lambda s, t, y: beside_labels(s, y, ttm(*of_logits(s, t), 5.0, weighted=True))),
        "mse_logits": Contender(lambda s, t, y: F.mse_loss(*of_logits(s, t))),
        "fitnets": _fitnets(start["fitnets"]),
        "attention_transfer": Contender(
            lambda s, t, y: attention(s["low"], t["low"]) + attention(s["high"], t["high"])
        ),
        "similarity_preserving": Contender(lambda s, t, y: similarity(s["high"], t["high"])),
        "rkd": Contender(lambda s, t, y: rkd(s["vector"], t["vector"])),
        "vid": _vid(start["vid"]),
        "nst": Contender(lambda s, t, y: nst(s["low"], t["low"]) + nst(s["high"], t["high"])),
        "review_kd, context": Contender(lambda s, t, y: context(s["high"], t["high"][:, :8])),
    }
