"""The area under the ROC curve, which looks at the order of scores alone; equal to scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def roc_auc(targets: Array, scores: Array, weights: Array | None) -> float | None:
    """Area under the ROC curve; more than two classes: each against the rest, unweighted mean.

    targets: (N,) classes; scores: (N, classes), or (N, 1) of the second class. None where a class does not occur.
    """
    if scores.shape[1] <= 2:
        return _auc(targets == 1, scores[:, -1], weights)
    return mean_auc(targets[:, None] == np.arange(scores.shape[1]), scores, weights)


def mean_auc(targets: Array, scores: Array, weights: Array | None) -> float | None:
    """Mean over columns of the area under the ROC curve; None where one of them is undefined.

    targets: (N, labels) 0/1; scores: (N, labels).
    """
    areas = [_auc(targets[:, column] > 0, scores[:, column], weights) for column in range(scores.shape[1])]
    defined = [area for area in areas if area is not None]
    return float(np.mean(defined)) if defined and len(defined) == len(areas) else None


def _auc(positive: Array, scores: Array, weights: Array | None) -> float | None:
    """P(score of a positive > score of a negative) + half of P(equal), by weight; None when one side is empty."""
    share = np.ones(len(scores)) if weights is None else weights.astype(np.float64)
    above, below = share * positive, share * ~positive
    total = above.sum() * below.sum()
    if total <= 0:
        return None
    _, rank = np.unique(scores, return_inverse=True)
    ups, downs = np.bincount(rank, above), np.bincount(rank, below)
    under = np.cumsum(downs) - downs  # weight of negatives that score less
    return float((ups * (under + 0.5 * downs)).sum() / total)
