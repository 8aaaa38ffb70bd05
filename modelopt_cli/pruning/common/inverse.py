"""The inverse of a layer's Hessian, safely: damped, in float64, by Cholesky factors."""

from __future__ import annotations

import torch
from torch import Tensor


def damped(gram: Tensor, damping: float) -> Tensor:
    """(n, n) float64: `gram` plus `damping` times its mean diagonal; inputs that are never seen get a diagonal of 1."""
    hessian = gram.double().clone()
    diagonal = hessian.diagonal()
    mean = diagonal.mean().clamp_min(1e-12)
    diagonal[diagonal == 0] = 1.0
    diagonal += damping * mean
    return hessian


def unseen(gram: Tensor) -> Tensor:
    """(n,) True for inputs that were always 0: whatever their weights are, the layer's outputs stay."""
    return gram.diagonal() == 0


def inverse(hessian: Tensor) -> Tensor:
    """H^-1 of a positive definite H."""
    return torch.cholesky_inverse(torch.linalg.cholesky(hessian))


def solved(hessian: Tensor, right: Tensor) -> Tensor:
    """H^-1 R of a positive definite H, in half the time of a general solver; of one that is not, by that."""
    factor, failed = torch.linalg.cholesky_ex(hessian)
    if int(failed):
        general: Tensor = torch.linalg.solve(hessian, right)
        return general
    return torch.cholesky_solve(right, factor)


def upper_factor(hessian: Tensor) -> Tensor:
    """U with U^T U = H^-1, upper triangular: row j holds the update of later inputs when input j goes."""
    factor: Tensor = torch.linalg.cholesky(inverse(hessian), upper=True)
    return factor
