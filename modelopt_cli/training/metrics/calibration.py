"""Whether a classifier is right as often as it says: its confidence against its accuracy, in bins.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks (ICML 2017), section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Samples whose highest probability lies in (low, high]: how many, its mean, and the share that is right."""

    low: float
    high: float
    count: int
    confidence: float | None  # None: no sample
    accuracy: float | None


def calibration_bins(targets: Array, probabilities: Array, count: int = BINS) -> list[Bin]:
    """`count` bins of equal width. targets: (N,) classes; probabilities: (N, classes)."""
    chosen, edges = probabilities.argmax(axis=1), np.linspace(0.0, 1.0, count + 1)
    confidence, right = probabilities.max(axis=1).astype(np.float64), chosen == targets
    number = np.digitize(confidence, edges[1:-1], right=True)  # (N,) of the bin, whose upper edge belongs to it
    bins = []
    for index, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        inside = number == index
        filled = bool(inside.any())
        mean = float(confidence[inside].mean()) if filled else None
        share = float(right[inside].mean()) if filled else None
        bins.append(Bin(low, high, int(inside.sum()), mean, share))
    return bins


def calibration_error(bins: list[Bin]) -> float | None:
    """The expected calibration error: the mean of |accuracy - confidence| over samples, by bin; None without samples.

    ECE = sum over bins of (count / N) * |accuracy - confidence| (equation 3 of the paper).
    """
    whole = sum(each.count for each in bins)
    gaps = (
        each.count * abs(each.accuracy - each.confidence)
        for each in bins
        if each.accuracy is not None and each.confidence is not None
    )
    return sum(gaps) / whole if whole else None
