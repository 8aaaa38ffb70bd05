"""From raw samples to what a model takes: fitted on the train split alone, saved with the model, applied to new data.

Kinds of inputs, by their raw form:
    numbers  (N, features) numbers, or a frame with category columns: medians for missing numbers, scaling, one-hot
    images   (N, C, H, W) uint8: kept as they are; `image_mean` and `image_std` are applied where they are used
    arrays   (N, ..., ) float with more axes: scaling per channel (N, C, H, W) or per feature (N, length, features)
    tokens   (N, length) whole numbers: kept
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from modelopt_cli.core.errors import InputError
from modelopt_cli.data.columns import ColumnKind, kind_of_texts, number_column, text_column
from modelopt_cli.data.fitting import FIT, Kind, check_finite, check_infinite, checked_tokens, kind_of
from modelopt_cli.data.part import Part
from modelopt_cli.data.raw import RawData, Task
from modelopt_cli.data.statistics import column_statistics
from modelopt_cli.data.tables import check_columns

VERSION = 1
Framework = Literal["torch", "sklearn"]


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """What was learnt from the train split. All statistics are float64."""

    kind: Kind
    task: Task
    shape: tuple[int, ...]  # of one raw sample: (columns,), (C, H, W), (length,)
    framework: Framework = "torch"
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
    kinds: Mapping[str, ColumnKind] = field(default_factory=dict)  # of columns, targets too, by which cells are read
    weighted: bool = False  # whether samples had weights

    @classmethod
    def fit(
        cls,
        raw: RawData,
        train: np.ndarray,
        *,
        standardize: bool,
        framework: Framework = "torch",
    ) -> Self:
        """Learn from samples `train` (positions) only. Raises InputError where the inputs cannot be used."""
        kind = kind_of(raw.inputs)
        statistics: dict[str, Any] = FIT[kind](raw, train, standardize)
        if raw.task == "regression":
            targets = raw.targets[train].reshape(len(train), -1)
            statistics["target_mean"], statistics["target_std"] = column_statistics(targets)
        return cls(
            kind=kind,
            task=raw.task,
            shape=tuple(int(size) for size in raw.inputs.shape[1:]),
            framework=framework,
            feature_names=raw.feature_names,
            target_names=raw.target_names,
            reading=dict(raw.reading),
            kinds=dict(raw.kinds),
            weighted=raw.weights is not None,
            **statistics,
        )

    @property
    def flatten(self) -> bool:
        """scikit-learn: images and arrays become rows of numbers."""
        return self.framework == "sklearn" and self.kind in ("images", "arrays")

    @property
    def dtype(self) -> Literal["float32", "float64"]:
        """Of numbers after `apply`: scikit-learn's estimators see tables as precisely as they would without us."""
        return "float64" if self.framework == "sklearn" and self.kind == "numbers" else "float32"

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

    def kind_of(self, name: str, labels: Sequence[str] = ()) -> ColumnKind | None:
        """How a column's cells are read; None: as numbers or truth values (models from before it was kept).

        `labels`: the classes, where the column is the target of a classification.
        """
        if name in self.kinds:
            return self.kinds[name]
        texts = labels or self.categories.get(name)
        return None if texts is None else kind_of_texts(texts)

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
            return checked_tokens(array, self.tokens)
        if self.kind == "images":
            if array.dtype != np.uint8:
                raise InputError(
                    f"images are {array.dtype}, but the model was trained on whole numbers 0 to 255 (uint8)"
                )
            return self.normalize(array).reshape(len(array), -1) if self.flatten else array
        check_finite(array)
        scaled = _scaled(array, self.mean, self.std, 1 if array.ndim == 4 else array.ndim - 1).astype(self.dtype)
        return scaled.reshape(len(array), -1) if self.flatten else scaled

    def part(self, raw: RawData, indices: np.ndarray) -> Part:
        """Samples `indices` of `raw`, preprocessed."""
        rows = raw.inputs[indices] if isinstance(raw.inputs, np.ndarray) else raw.inputs.iloc[indices]
        weights = None if raw.weights is None else raw.weights[indices].astype(np.float32)
        return Part(self.apply(rows), self.apply_targets(raw.targets[indices]), weights, indices)

    def apply_targets(self, targets: np.ndarray) -> np.ndarray:
        """(N,) int64 classes; (N, labels) float32; or (N, outputs) float64: values keep their digits until scaled."""
        if self.task == "classification":
            return targets.astype(np.int64)
        return targets.reshape(len(targets), -1).astype(np.float64 if self.task == "regression" else np.float32)

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
            columns = [number_column(inputs[name], name, self.kind_of(name)) for name in self.number_columns]
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
            check_infinite(array, self.feature_names)
        if self.fill is not None and np.isnan(array).any():
            array = np.where(np.isnan(array), self.fill, array)
        parts = [_scaled(array, self.mean, self.std, 1)]
        for name, texts in self.categories.items():
            parts.append(_one_hot(inputs[name], texts))  # type: ignore[arg-type]
        return (np.concatenate(parts, 1) if len(parts) > 1 else parts[0]).astype(self.dtype)


def _scaled(array: np.ndarray, mean: np.ndarray | None, std: np.ndarray | None, axis: int) -> np.ndarray:
    if mean is None or std is None:
        return array
    shape = [1] * array.ndim
    shape[axis] = -1
    return np.asarray((array - mean.reshape(shape)) / std.reshape(shape))


def _one_hot(column: pd.Series[Any], texts: tuple[str, ...]) -> np.ndarray:
    """(N, texts); all zero for a missing value and for a text that the train split did not have."""
    index = {text: position for position, text in enumerate(texts)}
    codes = np.array([index.get(value, -1) for value in text_column(column)], np.int64)
    encoded = np.zeros((len(codes), len(texts)))
    known = np.flatnonzero(codes >= 0)
    encoded[known, codes[known]] = 1
    return encoded


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
