"""Allocation by one ranking over all tensors: the lowest scores go, wherever they lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.pruning.allocations import Allocation, SensitivityProbe

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.cuts import Cut


@final
class Global(Allocation):
    """The lowest scores of all tensors together go."""

    piecewise: ClassVar[bool] = True

    def cuts(
        self, scores: Mapping[str, Tensor], target: float, probe: SensitivityProbe | None = None
    ) -> dict[str, Cut]:
        """Exactly round(target * n) of all n scores (or weights) go; among equal ones the first tensor's first."""
        from modelopt_cli.pruning.common.cuts import joint_share

        return joint_share(scores, target)
