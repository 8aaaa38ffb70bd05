"""How much several more of something will take, foreseen from how much each one took so far, and how sure that is.

Where costs grow or shrink steadily, they are taken to go on so. What was seen first is left out as soon as there is
enough else: it pays for imports, warm-up and worker processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_WARM_UP = 3  # from so many on, the first one is left out
_LEAST_FOR_TREND = 6
_CLEAR = 4.0  # standard errors that a slope must be away from 0 to count as one
_FURTHEST = 4.0  # times that a trend may leave behind the mean of what was seen last
_ALONE = 0.3  # relative deviation of a cost that was seen once
_RECENT = 3  # of those seen last, for the bounds of a trend


@dataclass(frozen=True)
class Forecast:
    """Seconds (or whatever the costs are in) of all that is to come, and their standard error."""

    seconds: float
    error: float

    def plus(self, other: Forecast) -> Forecast:
        """Both, one after the other; their errors are taken to be independent."""
        return Forecast(self.seconds + other.seconds, math.hypot(self.error, other.error))


def forecast(costs: Sequence[float], count: float) -> Forecast | None:
    """Of `count` more, after those that cost so much, in this order; None before anything was seen."""
    if not costs:
        return None
    seen = list(costs[1:] if len(costs) >= _WARM_UP else costs)
    number = len(seen)
    mean = sum(seen) / number
    if number == 1:
        return Forecast(mean * count, _ALONE * mean * count)
    level, slope, deviation, clear = _line(seen, mean)
    each = mean
    if clear:
        recent = sum(seen[-_RECENT:]) / len(seen[-_RECENT:])
        ahead = level + slope * (number + (count - 1) / 2)
        each = min(max(ahead, recent / _FURTHEST), recent * _FURTHEST)
    error = deviation * math.hypot(count / math.sqrt(number), math.sqrt(count))
    return Forecast(each * count, error)


def _line(seen: Sequence[float], mean: float) -> tuple[float, float, float, bool]:
    """(value at the first, slope, deviation around the line or the mean, whether the slope is clear), least squares."""
    number = len(seen)
    plain = math.sqrt(sum((cost - mean) ** 2 for cost in seen) / (number - 1))
    if number < _LEAST_FOR_TREND:
        return mean, 0.0, plain, False
    middle = (number - 1) / 2
    spread = sum((at - middle) ** 2 for at in range(number))
    slope = sum((at - middle) * (cost - mean) for at, cost in enumerate(seen)) / spread
    level = mean - slope * middle
    rest = sum((cost - level - slope * at) ** 2 for at, cost in enumerate(seen)) / (number - 2)
    clear = slope**2 > _CLEAR**2 * rest / spread
    return level, slope, math.sqrt(rest) if clear else plain, clear
