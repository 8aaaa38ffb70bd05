"""The gradient: what the loss hardly feels may go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.pruning.importances import WeightImportance
from modelopt_cli.pruning.statistics import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.statistics import Statistics


@final
class Gradient(WeightImportance):
    """The absolute gradient of the loss, |g|, over the calibration samples (Mozer and Smolensky, NeurIPS 1988)."""

    needs: ClassVar[Needs] = frozenset({"gradient"})

    def contributions(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Mapping[str, Tensor]:
        """g."""
        from modelopt_cli.pruning.each import Each

        return Each(weights, lambda name: statistics.get("gradient", name))
