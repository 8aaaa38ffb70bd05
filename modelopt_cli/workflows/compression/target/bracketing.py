"""Where a border lies between what passes and what does not, on the line of shares that a model may keep: pure.

Every question costs a pruning and mostly a recovery, so few are asked. Shares count by their ratio: a model at 6% of
its operations is as far from one at 3% as one at half is from the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LEAST = 0.002
"""No smaller share is asked for."""
TOLERANCE = 0.1
"""The smallest share that passes is at most this much larger than the largest that does not."""
_CLOSE = 0.03  # a value this much below the limit is as near as it need be
_SAME = 0.05  # shares this much apart are the same for a cost that is measured
_EDGE = 0.1  # part of a bracket that a guess keeps from its ends, so that it always shrinks


@dataclass(frozen=True)
class Border:
    """`passing`: the smallest share known to pass; `failing`: the largest below it known not to; 0.0: none is known."""

    passing: float
    failing: float = 0.0

    @property
    def settled(self) -> bool:
        """Whether the border is known well enough."""
        return self.passing <= max(self.failing, LEAST) * (1.0 + TOLERANCE)

    def between(self, step: float = 0.5) -> float:
        """The next share to ask about: `step` times the smallest that passes; midways by ratio where one is known to
        fail.
        """
        if self.failing:
            return math.sqrt(self.passing * self.failing)
        return max(self.passing * step, LEAST)


def smallest(
    passes: Callable[[float], bool], border: Border, go_on: Callable[[], bool], *, step: float = 0.5
) -> Border:
    """Narrow the border down as long as `go_on` says so. `step`: see `between`."""
    while not border.settled and go_on():
        share = border.between(step)
        border = Border(share, border.failing) if passes(share) else Border(border.passing, share)
    return border


def largest_within(
    cost: Callable[[float], float | None],
    limit: float,
    go_on: Callable[[], bool],
    *,
    whole: float,
    first: float,
    exact: bool,
) -> float | None:
    """The largest share whose cost is at most `limit`, near enough; None: no share that was asked about has that.

    `cost` of a share, which grows with it; None: nothing so small can be made. `whole`: the cost of share 1, which is
    above the limit. `first`: the share to begin with. `exact`: a share means so much of this very cost, so that the
    first one within the limit is taken; else guesses lie on the line between what is known (regula falsi).
    """
    low: Point = (0.0, None)
    above: list[tuple[float, float]] = [(1.0, whole)]  # those that cost too much, the smallest last
    best, share = None, first
    while go_on():
        value = cost(share)
        if value is not None and value <= limit:
            best, low = share, (share, value)
            if exact or value >= limit * (1.0 - _CLOSE):
                break
        elif value is None:
            low = share, None
        else:
            above.append((share, value))
        high = above[-1][0]
        if high - low[0] <= high * _SAME or high <= LEAST:
            break
        share = _between(low, above, limit)
    return best


Point = tuple[float, float | None]
"""A share, and what it costs; None: that is not known, or it cannot be made."""


def _between(low: Point, above: Sequence[tuple[float, float]], limit: float) -> float:
    """Where the line through two known points meets the limit, kept off the ends of what is left to ask about."""
    share, value = above[-1]
    width = share - low[0]
    other = low if low[1] is not None else above[-2] if len(above) > 1 else (0.0, 0.0)
    slope = (value - (other[1] or 0.0)) / (share - other[0])
    guess = share - (value - limit) / slope if slope > 0.0 else low[0]
    if low[0] and low[1] is None:
        guess = max(guess, math.sqrt(low[0] * share))  # what is smaller cannot be made
    return max(LEAST, min(share - _EDGE * width, max(low[0] + _EDGE * width, guess)))
