"""Moments of what a layer takes in: before units went, x (n,), and after, x~ (s,), over the rows that it sums over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Means over samples and positions, in float64. `kept`: which of the n inputs stay.

    x~ comes from the model that is pruned already up to this layer, so it is not x[kept]: the layer can make up for
    what was lost before it, too.
    """

    kept: Tensor  # (n,) bool, s of them True
    mean: Tensor  # (n,) E[x]
    kept_mean: Tensor  # (s,) E[x~]
    gram: Tensor  # (n, n) E[x x^T]
    kept_gram: Tensor  # (s, s) E[x~ x~^T]
    cross: Tensor  # (n, s) E[x x~^T]
    intercept: bool  # whether the layer has a bias, or something else that takes up a constant
    residual: Tensor | None = None  # (out, s) E[e x~^T], e (out,) what the layer's outputs shall have on top of W x
    residual_mean: Tensor | None = None  # (out,) E[e]
