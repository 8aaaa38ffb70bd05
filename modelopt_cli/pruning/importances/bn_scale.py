"""Importance by the scale of the normalization that follows ("network slimming")."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from modelopt_cli.core.errors import UsageError
from modelopt_cli.pruning.importances import UnitImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.units import Units


@final
class BnScale(UnitImportance):
    """The scale |gamma| of the unit's normalization (Liu et al., ICCV 2017; trained with an l1 term on it)."""

    def scores(self, units: Units) -> Tensor:
        """|gamma| of each normalization that units go through, aggregated. Raises UsageError where there is none."""
        if not units.scales:
            raise UsageError(
                f"the units of {units.name} go through no normalization that has scales, which bn_scale looks at; "
                "leave them out with pruning.exclude, or use another importance, such as l2"
            )
        return units.aggregated([rows.abs().mean(1) for rows in units.scales])
