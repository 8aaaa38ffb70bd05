"""Metrics of predicted values, equal to scikit-learn's with its default mean over several outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def measures(targets: Array, predictions: Array, weights: Array | None) -> dict[str, float]:
    """MAE, MSE, RMSE and R²; targets, predictions: (N, outputs) or (N,). R² is absent below two samples.

    An output whose targets do not vary has R² 1 when predicted perfectly, else 0.
    """
    actual, values = _columns(targets), _columns(predictions)
    if len(actual) == 0 or (weights is not None and weights.sum() <= 0):
        return {}
    error = actual - values
    # In units of a power of two near the largest of them, which is exact: squares do not overflow, nor vanish.
    size = np.ldexp(1.0, np.frexp(np.abs(error).max(0))[1] - 1)
    squares = np.average((error / size) ** 2, axis=0, weights=weights)  # (outputs,)
    with np.errstate(over="ignore", under="ignore"):
        mse = np.mean(squares * size * size)
    metrics = {
        "mae": float(np.mean(np.average(np.abs(error), axis=0, weights=weights))),
        "mse": float(mse),
        "rmse": float(np.mean(np.sqrt(squares) * size)),
    }
    if len(actual) > 1:
        centred = actual - np.average(actual, axis=0, weights=weights)
        unit = np.ldexp(1.0, np.frexp(np.abs(centred).max(0))[1] - 1)
        spread = np.average((centred / unit) ** 2, axis=0, weights=weights)
        missed = np.average((error / unit) ** 2, axis=0, weights=weights)
        varies = spread > 0
        each = np.where(missed > 0, 0.0, 1.0)
        each[varies] = 1.0 - missed[varies] / spread[varies]
        metrics["r2"] = float(np.mean(each))
    return metrics


def _columns(values: Array) -> Array:
    """(N, outputs) float64."""
    return values.astype(np.float64).reshape(len(values), -1)
