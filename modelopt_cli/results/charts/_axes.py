"""How far an axis of an objective goes: some settings are so bad that they would hide the differences between good
ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelopt_cli.core.conditions import Goal


def drawn_range(values: Sequence[float], goal: Goal) -> tuple[float, float, int]:
    """(low, high, how many values lie beyond): from the best value to the worst that is not out of all proportion.

    The good side is whole. On the bad side the axis ends four interquartile ranges beyond the worse quartile, if values
    lie farther away. A margin of 4% is on both sides."""
    ordered = sorted(values)
    quarter, three = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    reach = 4 * (three - quarter)
    low, high = ordered[0], ordered[-1]
    if reach > 0 and goal.maximize:
        low = max(low, quarter - reach)
    elif reach > 0:
        high = min(high, three + reach)
    margin = 0.04 * (high - low) or abs(high) * 0.05 or 1.0
    return low - margin, high + margin, sum(not low <= value <= high for value in ordered)


def flat(names: Sequence[str]) -> dict[str, Any]:
    """How the names along a horizontal axis are written: upright where they are short, else slanted."""
    return {"labelAngle": 0} if sum(map(len, names)) <= 30 else {"labelAngle": -30, "labelLimit": 110}
