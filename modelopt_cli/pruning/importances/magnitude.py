"""Magnitude: what is small does little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from modelopt_cli.pruning.importances import Importance

if TYPE_CHECKING:
    from torch import Tensor


@final
class Magnitude(Importance):
    """The weight's absolute value, |w| (Han et al., NeurIPS 2015)."""

    def score(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """|w|, without a gradient."""
        return {name: weight.detach().abs() for name, weight in weights.items()}
