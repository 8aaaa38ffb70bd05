"""Metrics of predicted classes and labels, and the log loss: exactly scikit-learn's, with `zero_division=0`."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def measures(targets: Array, predictions: Array, weights: Array | None, classes: int | None) -> dict[str, float]:
    """Accuracy, balanced accuracy, precision, recall and F1 of N predicted classes; absent: `balanced_accuracy`
    when no sample has weight.

    targets, predictions: (N,) class index; weights: (N,). `classes` is how many there are in all.
    """
    if len(targets) == 0:
        return {}
    width = int(max(targets.max(), predictions.max())) + 1
    pairs = targets * width + predictions
    counts = np.bincount(pairs, minlength=width * width).reshape(width, width)  # [target, prediction]
    table = counts
    if weights is not None:
        table = np.bincount(pairs, weights.astype(np.float64), width * width).reshape(width, width)
    occurs = (counts.sum(axis=0) + counts.sum(axis=1)) > 0
    hits, actual, predicted = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    metrics = {"accuracy": _divide(hits.sum(), table.sum())}
    seen = actual > 0
    if seen.any():
        metrics["balanced_accuracy"] = float(np.mean(hits[seen] / actual[seen]))
    each = _each(hits, actual, predicted)
    for name, values in each.items():
        metrics[name] = float(np.mean(values[occurs]))
        metrics[f"{name}_weighted"] = _divide((values * actual).sum(), actual.sum())
        if classes == 2:
            metrics[f"{name}_binary"] = float(values[1]) if width > 1 else 0.0
    return metrics


def label_measures(targets: Array, predictions: Array, weights: Array | None) -> dict[str, float]:
    """Subset accuracy, macro precision, recall and F1, and F1 averaged otherwise, of (N, labels) 0/1."""
    if len(targets) == 0:
        return {}
    share = np.ones(len(targets)) if weights is None else weights.astype(np.float64)
    hits = share @ (targets * predictions)  # (labels,)
    actual, predicted = share @ targets, share @ predictions
    metrics = {"accuracy": _divide(share @ (targets == predictions).all(axis=1), share.sum())}
    each = _each(hits, actual, predicted)
    metrics.update({name: float(np.mean(values)) for name, values in each.items()})
    metrics["f1_micro"] = _divide(2.0 * hits.sum(), actual.sum() + predicted.sum())
    metrics["f1_weighted"] = _divide((each["f1"] * actual).sum(), actual.sum())
    return metrics


def log_loss(targets: Array, shares: Array, weights: Array | None) -> float | None:
    """Mean negative log probability of the true class, clipped at the dtype's epsilon as scikit-learn does.

    targets: (N,) classes; shares: (N, classes) probabilities. None without any weight.
    """
    least = np.finfo(shares.dtype).eps
    chosen = np.clip(shares[np.arange(len(targets)), targets], least, 1.0 - least).astype(np.float64)
    if len(targets) == 0 or (weights is not None and weights.sum() <= 0):
        return None
    return float(-np.average(np.log(chosen), weights=weights))


def _each(hits: Array, actual: Array, predicted: Array) -> dict[str, Array]:
    """Precision, recall and F1 of every class; 0 where the denominator is."""
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, actual),
        "f1": _ratio(2.0 * hits, actual + predicted),
    }


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 0)


def _divide(above: float, below: float) -> float:
    return float(above / below) if below > 0 else 0.0
