"""Allocation by the least total output error for what is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, final

from pydantic import Field

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.types import Count
from modelopt_cli.pruning.allocations import Allocation, SensitivityProbe

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from modelopt_cli.pruning.allocations._error_curve import ErrorCurve
    from modelopt_cli.pruning.common.cuts import Cut

_USED = 0.8  # of the passes that a few cuts may take: as counted on residual networks and on weights of small ones
_QUARTER, _RATIO, _DEEP = 0.25, 0.8, 15  # down to a hundredth of a group
_FREE = 6.0  # passes for cuts that are not saved, however few all levels take
_ROUNDS = 4  # times that the cuts are looked at, and measured where they fall far from what is known


@final
class Divergence(Allocation):
    """Each group alone is cut on trial; those cuts are taken that together change the outputs least.

    The divergence is that of Kullback and Leibler between class probabilities (of other outputs the relative squared
    error), on calibration samples, with compensation. The sum over groups is minimised for what their units save
    together, by a Lagrange multiplier (Everett, Operations Research 1963; as for bits in Shoham and Gersho, 1988).
    A group is cut on trial once, and again where its cut is to fall far from that, first where most is at stake, up to
    an eighth of the passes that all levels take (of weights, a quarter); the rest of its curve has the shape of what
    the layers behind it lose (of weights, the sum of their squares), which takes no pass. Where no shape is known, all
    levels are tried, as with `every_level`.
    """

    measures: ClassVar[bool] = True
    measured: ClassVar[Literal["loss", "divergence"]] = "divergence"

    levels: Count = Field(16, description="Steps of a group's curve; between them it is interpolated.")
    every_level: bool = Field(
        False,
        description="Cut each group on trial at every level: about eight times the passes, for what may be some tenths "
        "of a point before recovery.",
    )

    def tries(self, share: float = SensitivityProbe.share) -> float:
        """See the base class."""
        return (self.levels - 1) * (1.0 if self.every_level else _USED * share)

    def cuts(
        self, scores: Mapping[str, Tensor], target: float, probe: SensitivityProbe | None = None
    ) -> dict[str, Cut]:
        """The share `target` of what all scores save together is saved, each by its group's price."""
        from modelopt_cli.pruning.common.cuts import lowest

        if probe is None:
            raise UsageError("allocation divergence measures outputs, so it needs a model and data; use global")
        sizes = {name: score.numel() for name, score in scores.items()}
        prices = {name: probe.price(name) for name in scores}
        wanted = target * sum(prices[name] * sizes[name] for name in sizes) * (1.0 - 1e-12)
        curves = {name: self._curve(name, score, probe) for name, score in scores.items()}
        while missing := {name: curve.missing for name, curve in curves.items() if curve.missing}:
            _measure(missing, scores, curves, probe)
        removed = _least(curves, prices, wanted)
        for _ in range(0 if probe.rough else _ROUNDS):
            again = _doubtful(curves, removed, probe)
            if not again:
                break
            _measure(again, scores, curves, probe)
            removed = _least(curves, prices, wanted)
        return {name: lowest(score, removed[name]) for name, score in scores.items()}

    def _curve(self, name: str, score: Tensor, probe: SensitivityProbe) -> ErrorCurve:
        from modelopt_cli.pruning.allocations._error_curve import ErrorCurve

        size, before = score.numel(), int((score == -math.inf).sum())  # are gone already
        steps = min(self.levels, size - before)
        levels = sorted({before + round((size - before) * step / steps) for step in range(1, steps)})
        finer = sorted({*levels, *_deep(size, before)})
        shape = probe.shape(name, finer) if levels and not self.every_level else None
        shares = None if shape is None else dict(zip(finer, shape, strict=True))
        return ErrorCurve(size, before, levels, shares, probe.known_errors(name))


def _deep(size: int, before: int) -> list[int]:
    """Counts from where a quarter of the scores is left, and ever less: there a step of a level is too wide.

    They are told by the shape alone, which takes no pass.
    """
    left = size - before
    counts = {size - max(1, round(left * _QUARTER * _RATIO**step)) for step in range(_DEEP)}
    return [count for count in counts if before < count < size]


def _doubtful(
    curves: Mapping[str, ErrorCurve], removed: Mapping[str, int], probe: SensitivityProbe
) -> dict[str, list[int]]:
    """Where cuts on trial are worth their passes when so many are to go of each: first what they may tell most."""
    costs = {name: probe.cost(name) for name in curves}
    all_levels = sum(costs[name] * len(curve.levels) for name, curve in curves.items())
    most = max(probe.share * all_levels - 1.0, _FREE)  # and one for what there was
    spent = sum(costs[name] * len(curve.known) for name, curve in curves.items())
    doubts = {
        name: doubt for name, curve in curves.items() if (doubt := curve.doubt(removed[name], probe.near)) is not None
    }
    again: dict[str, list[int]] = {}
    for name in sorted(doubts, key=lambda each: doubts[each].error / costs[each], reverse=True):
        if spent + costs[name] <= most:
            spent += costs[name]
            again[name] = [doubts[name].removed]
    return again


def _measure(
    counts: Mapping[str, Sequence[int]],
    scores: Mapping[str, Tensor],
    curves: Mapping[str, ErrorCurve],
    probe: SensitivityProbe,
) -> None:
    """Cut each of these tensors alone to so many, and note what it does in its curve."""
    from modelopt_cli.pruning.common.cuts import lowest

    errors = probe.output_errors({name: [lowest(scores[name], count) for count in own] for name, own in counts.items()})
    for name, own in counts.items():
        for count, error in zip(own, errors[name], strict=True):
            curves[name].note(count, error)


def _least(own: Mapping[str, ErrorCurve], prices: Mapping[str, float], wanted: float) -> dict[str, int]:
    """Counts that save at least `wanted` with the least error, up to the last step of the multiplier's bisection."""
    import numpy as np

    if not own:
        return {}
    names, curves = list(own), {name: curve.points() for name, curve in own.items()}
    longest = max(map(len, curves.values()))
    table = np.array([[*curves[name], *[curves[name][-1]] * (longest - len(curves[name]))] for name in names])
    counts, errors, price = table[:, :, 0], table[:, :, 1], np.array([prices[name] for name in names])

    def removed(multiplier: float) -> np.ndarray:
        best = (errors - multiplier * price[:, None] * counts).argmin(1)  # piecewise linear: one of the points
        chosen: np.ndarray = counts[np.arange(len(names)), best]
        return chosen

    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if price @ removed(math.exp(middle)) >= wanted else (middle, high)
    most, fewer = removed(math.exp(high)), removed(math.exp(low))
    rises = [
        np.interp(more, row, error) - np.interp(less, row, error)
        for more, less, row, error in zip(most, fewer, counts, errors, strict=True)
    ]
    for number in sorted(range(len(names)), key=lambda each: rises[each], reverse=True):
        room = math.floor((sum(price * most) - wanted) / price[number])
        most[number] -= max(0, min(room, most[number] - fewer[number]))
    return {name: int(count) for name, count in zip(names, most, strict=True)}
