"""The least total damage for what is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, final

from pydantic import Field

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.types import Count
from modelopt_cli.pruning.allocations import Allocation, Judge

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.cuts import Cut


@final
class Divergence(Allocation):
    """Each group alone is cut deeper and deeper; those cuts are taken that change the outputs least.

    The divergence is that of Kullback and Leibler between class probabilities (of other outputs the relative squared
    error), on calibration samples, with compensation. The sum over groups is minimised for what their units save
    together, by a Lagrange multiplier (Everett, Operations Research 1963; as for bits in Shoham and Gersho, 1988).
    """

    measures: ClassVar[bool] = True

    levels: Count = Field(16, description="Steps in which each group is cut on trial; between them it is interpolated.")

    def cuts(self, scores: Mapping[str, Tensor], target: float, judge: Judge | None = None) -> dict[str, Cut]:
        """The share `target` of what all scores save together is saved, each by its group's price."""
        from modelopt_cli.pruning.cuts import lowest

        if judge is None:
            raise UsageError("allocation divergence measures outputs, so it needs a model and data; use global")
        sizes = {name: score.numel() for name, score in scores.items()}
        gone = {name: int((score == -math.inf).sum()) for name, score in scores.items()}
        curves = {name: self._curve(name, score, gone[name], judge) for name, score in scores.items()}
        prices = {name: judge.price(name) for name in scores}
        wanted = target * sum(prices[name] * sizes[name] for name in sizes)
        removed = _least(curves, prices, wanted)
        return {name: lowest(score, removed[name]) for name, score in scores.items()}

    def _curve(self, name: str, score: Tensor, gone: int, judge: Judge) -> list[float]:
        """Damage for 0, 1, ... n removed; what is gone costs nothing, more never less, and the last one a lot."""
        from modelopt_cli.pruning.cuts import lowest

        size = score.numel()
        steps = min(self.levels, size - gone)
        tried = sorted({gone + round((size - gone) * step / steps) for step in range(steps)})
        damages, worst = [], 0.0
        for count in tried:
            found = 0.0 if count == gone else judge.damage(name, lowest(score, count))
            worst = max(worst, found if math.isfinite(found) else 10.0 * worst + 10.0)
            damages.append(worst)
        curve = [0.0] * tried[0]
        for place, count in enumerate(tried[:-1]):
            span, rise = tried[place + 1] - count, damages[place + 1] - damages[place]
            curve += [damages[place] + rise * step / span for step in range(span)]
        curve.append(damages[-1])
        slope = curve[-1] - curve[-2] if len(curve) > 1 else 1.0
        curve += [curve[-1] + max(slope, 1e-9) * step for step in range(1, size - len(curve) + 1)]
        return [*curve, curve[-1] * 10.0 + 10.0]


def _least(curves: Mapping[str, list[float]], prices: Mapping[str, float], wanted: float) -> dict[str, int]:
    """Counts that save at least `wanted` with the least damage, up to the last step of the multiplier's bisection."""

    def removed(multiplier: float) -> dict[str, int]:
        return {
            name: min(range(len(curve)), key=lambda count: curve[count] - multiplier * prices[name] * count)
            for name, curve in curves.items()
        }

    def saved(counts: Mapping[str, int]) -> float:
        return sum(prices[name] * count for name, count in counts.items())

    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if saved(removed(math.exp(middle))) >= wanted else (middle, high)
    found = removed(math.exp(high))
    less = removed(math.exp(low))
    for name in sorted(found, key=lambda each: curves[each][found[each]] - curves[each][less[each]], reverse=True):
        while found[name] > less[name] and saved(found) - prices[name] >= wanted:
            found[name] -= 1
    return found
