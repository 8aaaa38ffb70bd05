"""From raw samples to what a model takes: fitted on the train split alone, saved with the model, applied to new data.

Kinds of inputs, by their raw form:
    numbers  (N, features) numbers, or a frame with category columns: medians for missing numbers, scaling, one-hot
    images   (N, C, H, W) uint8: kept as they are; `image_mean` and `image_std` are applied where they are used
    arrays   (N, ..., ) float with more axes: scaling per channel (N, C, H, W) or per feature (N, length, features)
    tokens   (N, length) whole numbers: kept
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from modelopt_cli.core.errors import InputError
from modelopt_cli.data.files import check_memory
from modelopt_cli.data.raw import RawData, Task
from modelopt_cli.data.statistics import channel_statistics, column_statistics, image_statistics, medians
from modelopt_cli.data.tables import check_columns, number_column, text_column

VERSION = 1
Kind = Literal["numbers", "images", "arrays", "tokens"]


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """What was learnt from the train split. All statistics are float64."""

    kind: Kind
    task: Task
    shape: tuple[int, ...]  # of one raw sample: (columns,), (C, H, W), (length,)
    dtype: Literal["float32", "float64"] = "float32"
    flatten: bool = False  # scikit-learn: images and arrays become rows of numbers
    feature_names: tuple[str, ...] = ()  # all columns, in their order; empty where the source has no names
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # category column -> its texts
    fill: np.ndarray | None = None  # (numbers,) medians
    mean: np.ndarray | None = None  # (numbers,) or (channels,) or (features,); None: not scaled
    std: np.ndarray | None = None
    image_mean: np.ndarray | None = None  # (C,) of uint8 images, in the scale [0, 1]
    image_std: np.ndarray | None = None
    tokens: int | None = None  # vocabulary size
    target_names: tuple[str, ...] = ()
    target_mean: np.ndarray | None = None  # (outputs,), regression only: for a trainer that scales targets
    target_std: np.ndarray | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)  # how the source's files are read: plain values

    @classmethod
    def fit(
        cls,
        raw: RawData,
        train: np.ndarray,
        *,
        standardize: bool,
        framework: Literal["torch", "sklearn"] = "torch",
    ) -> Self:
        """Learn from samples `train` (positions) only. Raises InputError where the inputs cannot be used."""
        kind = _kind_of(raw.inputs)
        statistics: dict[str, Any] = _FIT[kind](raw, train, standardize)
        if raw.task == "regression":
            targets = raw.targets[train].reshape(len(train), -1)
            statistics["target_mean"], statistics["target_std"] = column_statistics(targets)
        return cls(
            kind=kind,
            task=raw.task,
            shape=tuple(int(size) for size in raw.inputs.shape[1:]),
            dtype="float64" if framework == "sklearn" and kind == "numbers" else "float32",
            flatten=framework == "sklearn" and kind in ("images", "arrays"),
            feature_names=raw.feature_names,
            target_names=raw.target_names,
            reading=dict(raw.reading),
            **statistics,
        )

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of one sample after `apply`."""
        if self.kind == "numbers":
            number = len(self.number_columns) if self.categories else self.shape[0]
            return (number + sum(len(texts) for texts in self.categories.values()),)
        return (int(np.prod(self.shape)),) if self.flatten else self.shape

    @property
    def number_columns(self) -> list[str]:
        """Names of the columns that are numbers."""
        return [name for name in self.feature_names if name not in self.categories]

    def apply(self, inputs: np.ndarray | pd.DataFrame) -> np.ndarray:
        """Raw inputs (N, *shape), or a frame with the named columns, to (N, *output_shape).

        uint8 images come back as uint8 (unless `flatten`): `normalize` is still to be applied, on the device or here.
        """
        if self.kind == "numbers":
            return self._apply_numbers(inputs)
        array = np.asarray(inputs)
        if array.shape[1:] != self.shape:
            raise InputError(f"samples have shape {array.shape[1:]}, but the model was trained on {self.shape}")
        if self.kind == "tokens":
            return _checked_tokens(array, self.tokens)
        if self.kind == "images":
            if array.dtype != np.uint8:
                raise InputError(
                    f"images are {array.dtype}, but the model was trained on whole numbers 0 to 255 (uint8)"
                )
            return self.normalize(array).reshape(len(array), -1) if self.flatten else array
        _check_finite(array)
        scaled = _scaled(array, self.mean, self.std, 1 if array.ndim == 4 else array.ndim - 1).astype(self.dtype)
        return scaled.reshape(len(array), -1) if self.flatten else scaled

    def normalize(self, images: np.ndarray) -> np.ndarray:
        """uint8 images (N, C, H, W) to float32: `(x / 255 - image_mean) / image_std`, per channel.

        Other inputs are returned as they are, so this may follow every `apply` (but that of flattened images).
        """
        if self.image_mean is None or self.image_std is None or images.dtype != np.uint8:
            return images
        # One table of 256 values for each channel: exact, and faster than arithmetic on every pixel.
        levels = np.arange(256, dtype=np.float64) / 255
        table = ((levels - self.image_mean[:, None]) / self.image_std[:, None]).astype(np.float32)  # (C, 256)
        return np.stack([table[channel][images[:, channel]] for channel in range(len(table))], 1)

    def to_plain(self) -> dict[str, Any]:
        """Plain values only (dicts, lists, numbers, text), for a checkpoint or JSON."""
        plain: dict[str, Any] = {"version": VERSION}
        for item in fields(self):
            plain[item.name] = _plain(getattr(self, item.name))
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `to_plain`. Raises InputError where it is damaged or from a newer version."""
        if not isinstance(plain, Mapping) or not isinstance(plain.get("version"), int):
            raise InputError("the preprocessing of this model is damaged: it has no version")
        if plain["version"] > VERSION:
            raise InputError(f"preprocessing version {plain['version']} is newer than this modelopt reads ({VERSION})")
        known = {item.name for item in fields(cls)}
        try:
            return cls(**{name: _restore(name, value) for name, value in plain.items() if name in known})
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"the preprocessing of this model is damaged: {error}") from None

    def _apply_numbers(self, inputs: np.ndarray | pd.DataFrame) -> np.ndarray:
        if isinstance(inputs, pd.DataFrame):
            check_columns(inputs, self.feature_names, "the data")
            columns = [number_column(inputs[name], name) for name in self.number_columns]
            array = np.stack(columns, 1) if columns else np.empty((len(inputs), 0))
        else:
            array = np.asarray(inputs, np.float64)
            if self.categories or array.shape[1:] != self.shape:
                rule = (
                    f"named columns: {', '.join(self.feature_names)}"
                    if self.categories
                    else f"shape (N, {self.shape[0]})"
                )
                raise InputError(f"inputs have shape {array.shape}, but the model was trained on {rule}")
            _check_infinite(array, self.feature_names)
        if self.fill is not None and np.isnan(array).any():
            array = np.where(np.isnan(array), self.fill, array)
        parts = [_scaled(array, self.mean, self.std, 1)]
        for name, texts in self.categories.items():
            parts.append(_one_hot(inputs[name], texts))  # type: ignore[call-overload,index]
        return (np.concatenate(parts, 1) if len(parts) > 1 else parts[0]).astype(self.dtype)


def _kind_of(inputs: np.ndarray | pd.DataFrame) -> Kind:
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
            categories[str(name)] = tuple(sorted({value for value in rows[name] if value is not None}))
        array = rows[numbers].to_numpy(np.float64)
        width = len(numbers) + sum(len(texts) for texts in categories.values())
        check_memory(len(raw) * width * 8, f"one-hot encoding {len(raw)} rows to {width} columns")
    else:
        array = raw.inputs[train].astype(np.float64, copy=False)
        _check_infinite(array, raw.feature_names)
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
    array = raw.inputs[train]  # type: ignore[call-overload]
    _check_finite(array)
    mean, std = channel_statistics(array, 1 if array.ndim == 4 else array.ndim - 1) if standardize else (None, None)
    return {"mean": mean, "std": std}


def _fit_tokens(raw: RawData, train: np.ndarray, standardize: bool) -> dict[str, Any]:
    """The vocabulary covers all samples, so that none is out of range in validation."""
    _checked_tokens(raw.inputs, None)  # type: ignore[arg-type]
    return {"tokens": int(np.max(raw.inputs)) + 1}


_FIT = {"numbers": _fit_numbers, "images": _fit_images, "arrays": _fit_arrays, "tokens": _fit_tokens}


def _scaled(array: np.ndarray, mean: np.ndarray | None, std: np.ndarray | None, axis: int) -> np.ndarray:
    if mean is None or std is None:
        return array
    shape = [1] * array.ndim
    shape[axis] = -1
    return (array - mean.reshape(shape)) / std.reshape(shape)


def _one_hot(column: pd.Series[Any], texts: tuple[str, ...]) -> np.ndarray:
    """(N, texts); all zero for a missing value and for a text that the train split did not have."""
    index = {text: position for position, text in enumerate(texts)}
    codes = np.array([index.get(value, -1) for value in text_column(column)], np.int64)
    encoded = np.zeros((len(codes), len(texts)))
    known = np.flatnonzero(codes >= 0)
    encoded[known, codes[known]] = 1
    return encoded


def _checked_tokens(array: np.ndarray, vocabulary: int | None) -> np.ndarray:
    if array.dtype.kind not in "iu":
        raise InputError(f"tokens are {array.dtype}, but must be whole numbers")
    if array.size and (array.min() < 0 or (vocabulary is not None and array.max() >= vocabulary)):
        rule = "0 or more" if vocabulary is None else f"0 to {vocabulary - 1}, as in training"
        raise InputError(f"tokens go from {array.min()} to {array.max()}, but must be {rule}")
    return array.astype(np.int64)


def _check_finite(array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        sample = int(np.argwhere(~np.isfinite(array))[0][0])
        raise InputError(f"sample {sample} holds a value that is not finite; replace or remove it")


def _check_infinite(array: np.ndarray, names: tuple[str, ...]) -> None:
    if np.isinf(array).any():
        row, column = np.argwhere(np.isinf(array))[0]
        name = names[column] if names else column
        raise InputError(f"column '{name}' is infinite in sample {row}; replace it, or write nan for a missing value")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [float(number) for number in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _restore(name: str, value: Any) -> Any:
    if name in ("fill", "mean", "std", "image_mean", "image_std", "target_mean", "target_std"):
        return None if value is None else np.asarray(value, np.float64)
    if name == "categories":
        return {key: tuple(texts) for key, texts in value.items()}
    return tuple(value) if isinstance(value, list) else value
