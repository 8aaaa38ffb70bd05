"""What each kind of input learns from the train split, and what it must satisfy."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from modelopt_cli.core.errors import InputError
from modelopt_cli.data.columns import text_column
from modelopt_cli.data.files import check_memory
from modelopt_cli.data.raw import RawData
from modelopt_cli.data.statistics import channel_statistics, column_statistics, image_statistics, medians

Kind = Literal["numbers", "images", "arrays", "tokens"]


def kind_of(inputs: np.ndarray | pd.DataFrame) -> Kind:
    """The kind of raw inputs. Raises InputError where they are none."""
    if isinstance(inputs, pd.DataFrame):
        return "numbers"
    if inputs.ndim < 2 or inputs.size == 0:
        raise InputError(f"inputs have shape {inputs.shape}; they must be (N, ...) with at least one number a sample")
    if inputs.ndim == 2:
        return "tokens" if inputs.dtype.kind in "iu" and inputs.dtype != np.uint8 else "numbers"
    return "images" if inputs.dtype == np.uint8 and inputs.ndim == 4 else "arrays"


def _fit_numbers(raw: RawData, train: np.ndarray, standardize: bool) -> dict[str, Any]:
    categories: dict[str, tuple[str, ...]] = {}
    if isinstance(raw.inputs, pd.DataFrame):
        rows = raw.inputs.iloc[train]
        numbers = [name for name in rows.columns if pd.api.types.is_numeric_dtype(rows[name].dtype)]
        for name in rows.columns.difference(numbers, sort=False):
            categories[str(name)] = tuple(sorted({text for text in text_column(rows[name]) if text is not None}))
        array = rows[numbers].to_numpy(np.float64)
        width = len(numbers) + sum(len(texts) for texts in categories.values())
        check_memory(len(raw) * width * 8, f"one-hot encoding {len(raw)} rows to {width} columns")
    else:
        array = raw.inputs[train].astype(np.float64, copy=False)
        check_infinite(array, raw.feature_names)
    fill = medians(array)
    if np.isnan(array).any():
        array = np.where(np.isnan(array), fill, array)
    mean, std = column_statistics(array) if standardize else (None, None)
    return {"categories": categories, "fill": fill, "mean": mean, "std": std}


def _fit_images(raw: RawData, train: np.ndarray, standardize: bool) -> dict[str, Any]:
    channels = raw.inputs.shape[1]
    if not standardize:
        return {"image_mean": np.zeros(channels), "image_std": np.ones(channels)}
    mean, std = image_statistics(raw.inputs, train)  # type: ignore[arg-type]
    return {"image_mean": mean, "image_std": std}


def _fit_arrays(raw: RawData, train: np.ndarray, standardize: bool) -> dict[str, Any]:
    array = np.asarray(raw.inputs)[train]
    check_finite(array)
    mean, std = channel_statistics(array, 1 if array.ndim == 4 else array.ndim - 1) if standardize else (None, None)
    return {"mean": mean, "std": std}


def _fit_tokens(raw: RawData, train: np.ndarray, standardize: bool) -> dict[str, Any]:
    """The vocabulary covers all samples, so that none is out of range in validation."""
    checked_tokens(raw.inputs, None)  # type: ignore[arg-type]
    return {"tokens": int(np.max(raw.inputs)) + 1}


FIT = {"numbers": _fit_numbers, "images": _fit_images, "arrays": _fit_arrays, "tokens": _fit_tokens}


def checked_tokens(array: np.ndarray, vocabulary: int | None) -> np.ndarray:
    """Tokens as int64. Raises InputError outside the vocabulary."""
    if array.dtype.kind not in "iu":
        raise InputError(f"tokens are {array.dtype}, but must be whole numbers")
    if array.size and (array.min() < 0 or (vocabulary is not None and array.max() >= vocabulary)):
        rule = "0 or more" if vocabulary is None else f"0 to {vocabulary - 1}, as in training"
        raise InputError(f"tokens go from {array.min()} to {array.max()}, but must be {rule}")
    return array.astype(np.int64)


def check_finite(array: np.ndarray) -> None:
    """Raises InputError at NaN and infinite values: images and sequences have no missing ones."""
    if not np.isfinite(array).all():
        sample = int(np.argwhere(~np.isfinite(array))[0][0])
        raise InputError(f"sample {sample} holds a value that is not finite; replace or remove it")


def check_infinite(array: np.ndarray, names: tuple[str, ...]) -> None:
    """Raises InputError at infinite values of (N, features); NaN is a missing one."""
    if np.isinf(array).any():
        row, column = np.argwhere(np.isinf(array))[0]
        name = names[column] if names else column
        raise InputError(f"column '{name}' is infinite in sample {row}; replace it, or write nan for a missing value")
