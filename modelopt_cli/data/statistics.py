"""Means, deviations and medians of a train split, in float64."""

from __future__ import annotations

import numpy as np

_LEAST = np.finfo(np.float64).tiny
_CHUNK = 256  # images at a time, so that a chunk stays in the cache


def column_statistics(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (population) of the columns of (N, F); 1 for constant ones, as StandardScaler has it."""
    array = array.astype(np.float64, copy=False)
    # In units of a power of two near the largest value, which is exact: squares neither vanish nor overflow.
    unit = np.ldexp(1.0, np.frexp(np.maximum(array.max(0), -array.min(0)))[1] - 1)
    scaled = array / unit
    mean = scaled.mean(0)
    return mean * unit, _deviation(mean, scaled.var(0), len(array), unit)


def channel_statistics(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation over all axes but `axis`."""
    others = tuple(number for number in range(array.ndim) if number != axis)
    mean = array.mean(others, dtype=np.float64)
    variance = array.var(others, dtype=np.float64)
    return mean, _deviation(mean, variance, array.size // array.shape[axis])


def image_statistics(images: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel of uint8 images (N, C, H, W), in the scale [0, 1]; exact sums."""
    channels, pixels = images.shape[1], images.shape[2] * images.shape[3]
    total, squares = np.zeros(channels), np.zeros(channels)  # whole numbers, exact in float64
    for start in range(0, len(train), _CHUNK):
        chunk = images[train[start : start + _CHUNK]].reshape(-1, channels, pixels).astype(np.float64)
        total += chunk.sum((0, 2))
        squares += np.einsum("ncp,ncp->c", chunk, chunk)
    count = len(train) * pixels
    mean = total / count
    variance = squares / count - mean**2
    return mean / 255, _deviation(mean, variance, count) / 255


def medians(array: np.ndarray) -> np.ndarray:
    """Medians of the columns of (N, F), missing values (NaN) left out; 0 for a column without any value."""
    missing = np.isnan(array)
    if not missing.any():
        return np.asarray(np.median(array, axis=0))
    result = np.zeros(array.shape[1])
    for column in range(array.shape[1]):
        values = array[~missing[:, column], column]
        if len(values):
            result[column] = np.median(values)
    return result


def _deviation(mean: np.ndarray, variance: np.ndarray, count: int, unit: np.ndarray | float = 1.0) -> np.ndarray:
    """Square root, times `unit`; 1 where the variance is rounding error of a constant (scikit-learn's bound).

    So it is where the deviation is subnormal: it has lost its digits, and may have been rounded to 0.
    """
    epsilon = np.finfo(np.float64).eps
    constant = variance <= count * epsilon * variance + (count * mean * epsilon) ** 2
    deviation = np.sqrt(variance) * unit
    return np.where(constant | (deviation < _LEAST), 1.0, deviation)
