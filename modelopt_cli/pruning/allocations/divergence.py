"""Allocation by the least total output error for what is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal, final

from pydantic import Field

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.types import Count
from modelopt_cli.pruning.allocations import Allocation, SensitivityProbe

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.cuts import Cut


Curve = list[tuple[int, float]]
"""(how many are removed, output error), ascending."""


@final
class Divergence(Allocation):
    """Each group alone is cut deeper and deeper; those cuts are taken that change the outputs least.

    The divergence is that of Kullback and Leibler between class probabilities (of other outputs the relative squared
    error), on calibration samples, with compensation. The sum over groups is minimised for what their units save
    together, by a Lagrange multiplier (Everett, Operations Research 1963; as for bits in Shoham and Gersho, 1988).
    """

    measures: ClassVar[bool] = True
    measured: ClassVar[Literal["loss", "divergence"]] = "divergence"

    levels: Count = Field(16, description="Steps in which each group is cut on trial; between them it is interpolated.")

    def cuts(
        self, scores: Mapping[str, Tensor], target: float, probe: SensitivityProbe | None = None
    ) -> dict[str, Cut]:
        """The share `target` of what all scores save together is saved, each by its group's price."""
        from modelopt_cli.core.work import counted
        from modelopt_cli.pruning.common.cuts import lowest

        if probe is None:
            raise UsageError("allocation divergence measures outputs, so it needs a model and data; use global")
        sizes = {name: score.numel() for name, score in scores.items()}
        before = {name: int((score == -math.inf).sum()) for name, score in scores.items()}  # are gone already
        each = counted(scores.items(), "layers cut on trial")
        curves = {name: self._curve(name, score, before[name], probe) for name, score in each}
        prices = {name: probe.price(name) for name in scores}
        wanted = target * sum(prices[name] * sizes[name] for name in sizes)
        removed = _least(curves, prices, wanted * (1.0 - 1e-12))
        return {name: lowest(score, removed[name]) for name, score in scores.items()}

    def _curve(self, name: str, score: Tensor, before: int, probe: SensitivityProbe) -> Curve:
        """What is gone before costs nothing, more never less, and the last one a lot."""
        from modelopt_cli.pruning.common.cuts import lowest

        size = score.numel()
        if before == size:
            return [(0, 0.0), (size, 0.0)] if size else [(0, 0.0)]
        steps = min(self.levels, size - before)
        curve, worst = [(0, 0.0)], 0.0
        for count in sorted({before + round((size - before) * step / steps) for step in range(steps)} - {0}):
            error = 0.0 if count == before else probe.output_error(name, lowest(score, count))
            worst = max(worst, error if math.isfinite(error) else 10.0 * worst + 10.0)
            curve.append((count, worst))
        last, previous = curve[-1][0], curve[-2:][0]
        if last < size - 1:  # on as it went last
            slope = (worst - previous[1]) / (last - previous[0]) if last > before else 1.0
            curve.append((size - 1, worst + max(slope, 1e-9) * (size - 1 - last)))
        return [*curve, (size, curve[-1][1] * 10.0 + 10.0)]


def _least(curves: Mapping[str, Curve], prices: Mapping[str, float], wanted: float) -> dict[str, int]:
    """Counts that save at least `wanted` with the least error, up to the last step of the multiplier's bisection."""

    def removed(multiplier: float) -> dict[str, int]:
        return {
            name: min(curve, key=lambda at: at[1] - multiplier * prices[name] * at[0])[0]
            for name, curve in curves.items()
        }  # of a piecewise linear curve it is one of the points

    def saved(counts: Mapping[str, int]) -> float:
        return sum(prices[name] * count for name, count in counts.items())

    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if saved(removed(math.exp(middle))) >= wanted else (middle, high)
    counts = removed(math.exp(high))
    less = removed(math.exp(low))
    rises = {name: _at(curves[name], counts[name]) - _at(curves[name], less[name]) for name in counts}
    for name in sorted(counts, key=lambda each: rises[each], reverse=True):
        room = math.floor((saved(counts) - wanted) / prices[name])
        counts[name] -= max(0, min(room, counts[name] - less[name]))
    return counts


def _at(curve: Curve, count: int) -> float:
    """Between its points it is interpolated."""
    (one, low), (other, high) = next(
        (first, second) for first, second in pairwise([curve[0], *curve]) if second[0] >= count
    )
    return high if other == one else low + (high - low) * (count - one) / (other - one)
