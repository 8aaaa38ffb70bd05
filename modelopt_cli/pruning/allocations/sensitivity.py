"""Allocation by measured sensitivity: what removing costs decides where to remove."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, ClassVar, final

from pydantic import Field

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.types import Items
from modelopt_cli.pruning.allocations import Allocation, SensitivityProbe

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.cuts import Cut

Level = Annotated[float, Field(gt=0.0, lt=1.0)]


@final
class Sensitivity(Allocation):
    """Every tensor alone is cut deeper and deeper; then all give what costs the same loss (Han et al., NeurIPS 2015).

    The measured curve (tensor, share removed, validation loss) is kept as a table of the report.
    """

    measures: ClassVar[bool] = True

    levels: Annotated[Items[Level], Field(min_length=1)] = Field(
        (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99),
        description="Shares of a tensor that are tried; none gives more than the last before all have.",
    )

    def tries(self, share: float = SensitivityProbe.share) -> float:
        """See the base class."""
        return float(len(self.levels))  # and nothing, once for all

    def cuts(
        self, scores: Mapping[str, Tensor], target: float, probe: SensitivityProbe | None = None
    ) -> dict[str, Cut]:
        """Exactly round(target * n) of all n scores go. Raises UsageError without a probe."""
        from modelopt_cli.core.work import counted
        from modelopt_cli.pruning.allocations._counts import cut_to, whole_numbers
        from modelopt_cli.pruning.common.cuts import block_sizes

        if probe is None:
            raise UsageError("allocation sensitivity measures the loss, so it needs a model and data; use global")
        counts = {name: score.numel() for name, score in scores.items()}
        worth = block_sizes(scores)
        sizes = {name: count * worth[name] for name, count in counts.items()}
        total = round(target * sum(sizes.values()))
        each = counted(scores.items(), "layers cut on trial")
        curves = {name: self._curve(name, score, probe) for name, score in each}
        tolerance = _tolerance(curves, sizes, total)
        wanted = {name: sizes[name] * _share(curve, tolerance) for name, curve in curves.items()}
        wanted = {name: count / worth[name] for name, count in _adding_up(wanted, sizes, total).items()}
        return cut_to(scores, whole_numbers(wanted, counts, target, worth))

    def _curve(self, name: str, score: Tensor, probe: SensitivityProbe) -> list[tuple[float, float]]:
        """(share removed, loss), from (0, the loss as it is); made monotone, since noise must not pay."""
        from modelopt_cli.pruning.common.cuts import lowest

        shares = [0.0, *sorted(self.levels)]
        losses = [probe.loss(name, lowest(score, round(share * score.numel()))) for share in shares]
        finite = [loss for loss in losses if math.isfinite(loss)]
        worst = 10.0 * max(finite, default=1.0) + 10.0  # stands for a loss that is no number
        return list(
            zip(shares, accumulate((loss if math.isfinite(loss) else worst for loss in losses), max), strict=True)
        )


def _adding_up(wanted: Mapping[str, float], sizes: Mapping[str, int], total: int) -> dict[str, float]:
    """Less of everything where it is too much; an equal share of what is left where all levels are not enough."""
    given, all_ = sum(wanted.values()), sum(sizes.values())
    if given > total:
        return {name: count * total / given for name, count in wanted.items()}
    rest = (total - given) / max(all_ - given, 1e-9)
    return {name: count + (sizes[name] - count) * rest for name, count in wanted.items()}


def _share(curve: list[tuple[float, float]], tolerance: float) -> float:
    """The largest share whose loss, interpolated, is at most `tolerance` above the loss of removing nothing."""
    limit = curve[0][1] + tolerance
    share, loss = curve[0]
    for next_share, next_loss in curve[1:]:
        if next_loss > limit:
            return share + (next_share - share) * (limit - loss) / (next_loss - loss)
        share, loss = next_share, next_loss
    return share


def _tolerance(curves: Mapping[str, list[tuple[float, float]]], sizes: Mapping[str, int], total: int) -> float:
    """The least rise of the loss, the same for every tensor, at which `total` scores may go (bisection)."""
    high = max(max(loss - curve[0][1] for _, loss in curve) for curve in curves.values())
    low = 0.0
    for _ in range(60):
        middle = (low + high) / 2
        given = sum(sizes[name] * _share(curve, middle) for name, curve in curves.items())
        low, high = (low, middle) if given >= total else (middle, high)
    return high
