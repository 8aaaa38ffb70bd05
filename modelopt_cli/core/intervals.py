"""How much a share that was seen in so many samples may differ from the true one."""

from __future__ import annotations

import math

NORMAL_95 = 1.959963984540054
"""95 of 100 normally distributed values deviate by less than so many standard deviations."""


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95% interval of a share that was seen in `n` samples: all shares p for which |p - share| is at most z times
    sqrt(p (1 - p) / n) (Wilson 1927).
    """
    z = NORMAL_95
    center, spread = share + z**2 / (2 * n), z * math.sqrt(max(0.0, share * (1 - share)) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return (center - spread) / scale, (center + spread) / scale
