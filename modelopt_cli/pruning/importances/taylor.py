"""First-order Taylor expansion: what the loss changes by when a weight becomes 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.pruning.importances import WeightImportance
from modelopt_cli.pruning.statistics import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.statistics import Statistics


@final
class Taylor(WeightImportance):
    """First-order change of the loss, |w g| (Molchanov et al., CVPR 2019, eq. 8; of a group: |sum w g|)."""

    needs: ClassVar[Needs] = frozenset({"gradient"})

    def contributions(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Mapping[str, Tensor]:
        """w g, signed: over a group the changes of its weights may cancel."""
        from modelopt_cli.pruning.each import Each

        return Each(weights, lambda name: weights[name].detach() * statistics.get("gradient", name))
