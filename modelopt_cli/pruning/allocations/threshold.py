"""Allocation by an absolute threshold: whatever scores below it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.pruning.allocations import Allocation, SensitivityProbe

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.cuts import Cut


@final
class Threshold(Allocation):
    """Everything whose score is below the threshold goes; a score of exactly the threshold stays."""

    absolute: ClassVar[bool] = True
    piecewise: ClassVar[bool] = True

    def cuts(
        self, scores: Mapping[str, Tensor], target: float, probe: SensitivityProbe | None = None
    ) -> dict[str, Cut]:
        """`target`: the threshold, in the importance's own units. What is not a number stays."""
        from modelopt_cli.pruning.common.cuts import Cut

        return {name: Cut(target) for name in scores}
