"""What a target column means: its task, its classes in order, and numbers for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from modelopt_cli.core.errors import InputError, did_you_mean
from modelopt_cli.data.columns import label_text
from modelopt_cli.data.raw import Task

AskedTask = Literal["auto", "classification", "multilabel", "regression"]
MOST_CLASSES = 20  # whole numbers with at most so many different values are taken for classes by `task: auto`


@dataclass(frozen=True, eq=False)
class Targets:
    """Targets as RawData holds them."""

    values: np.ndarray  # (N,) int64 | (N, labels) int64 of 0/1 | (N,) or (N, outputs) float64
    task: Task
    label_names: tuple[str, ...]
    notes: tuple[str, ...] = ()  # what was made of them that might surprise


def interpret(values: Any, asked: AskedTask, names: Sequence[str] = ("target",)) -> Targets:
    """Targets from an array, series or frame of N rows.

    auto: one column of text, truth values, or whole numbers with at most 20 different values is classification, several
    columns of 0/1 are multilabel, all else is regression. Several columns with exactly one 1 in each row are classes,
    one-hot, unless multilabel or regression is asked for. Raises InputError naming column, value and remedy.
    """
    columns = _columns(values)
    named = len(columns) == len(names)
    if not named:
        names = [f"target_{number}" for number in range(len(columns))]
    for name, column in zip(names, columns, strict=True):
        _check_complete(column, name)
    if asked in ("auto", "classification") and _is_one_hot(columns):
        labels = tuple(names) if named else tuple(map(str, range(len(columns))))
        note = (
            f"the {len(columns)} target columns have exactly one 1 in each row, so they are taken for classes; where "
            "several labels could be true of one sample, set data.task: multilabel"
        )
        return Targets(_hot(columns), "classification", labels, (note,))
    task = _resolve(columns, asked)
    if task == "classification":
        codes, labels = _classes(columns, names[0])
        return Targets(codes, task, labels)
    if task == "multilabel":
        return Targets(_binary(columns, names), task, tuple(names))
    numbers = [_numbers(column, name) for name, column in zip(names, columns, strict=True)]
    return Targets(numbers[0] if len(numbers) == 1 else np.stack(numbers, 1), task, tuple(names))


def encode(values: Any, task: Task, label_names: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Targets of new data, in the numbers that the model was trained on. A class that is new to it is an InputError."""
    columns = _columns(values)
    for name, column in zip(names, columns, strict=False):
        _check_complete(column, name, "take those rows out")
    if task == "classification" and len(columns) > 1:
        return _known_one_hot(columns, label_names, names)
    if task == "classification":
        return _known_classes(columns[0], label_names, names[0])
    outputs = len(label_names) or 1
    if len(columns) != outputs:
        raise InputError(f"the targets have {len(columns)} columns, but the model gives {outputs}")
    if task == "multilabel":
        return _binary(columns, names)
    return np.stack([_numbers(column, name) for name, column in zip(names, columns, strict=True)], 1)


def _columns(values: Any) -> list[np.ndarray]:
    if isinstance(values, pd.DataFrame):
        return [_array(values.iloc[:, position]) for position in range(values.shape[1])]
    if isinstance(values, pd.Series):
        return [_array(values)]
    array = np.asarray(values)
    if array.ndim == 1:
        return [array]
    if array.ndim != 2:
        raise InputError(f"targets have shape {array.shape}, but must be (N,) or (N, outputs)")
    return list(array.T)


def _array(column: pd.Series[Any]) -> np.ndarray:
    if pd.api.types.is_bool_dtype(column.dtype) and not column.hasnans:
        return column.to_numpy(bool)
    if pd.api.types.is_integer_dtype(column.dtype) and not column.hasnans:
        return column.to_numpy(np.int64 if column.dtype != np.uint64 else np.float64)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(np.float64, na_value=np.nan)
    return column.to_numpy(object)


def _check_complete(column: np.ndarray, name: str, remedy: str = "drop the rows with 'missing: drop'") -> None:
    missing = np.flatnonzero(pd.isna(column))
    if len(missing):
        raise InputError(
            f"target '{name}' has {len(missing)} missing values (empty, NA or nan), the first in data row "
            f"{missing[0] + 1}; fill them in, or {remedy}"
        )


def _resolve(columns: list[np.ndarray], asked: AskedTask) -> Task:
    if asked == "classification" and len(columns) > 1:
        return "multilabel"
    if asked != "auto":
        return asked
    if len(columns) > 1:
        return "multilabel" if all(_is_binary(column) for column in columns) else "regression"
    column = columns[0]
    if column.dtype.kind not in "iuf":
        return "classification"
    whole = column.dtype.kind in "iu" or bool(np.all(column == np.floor(column)))
    return "classification" if whole and len(np.unique(column)) <= MOST_CLASSES else "regression"


def _is_one_hot(columns: list[np.ndarray]) -> bool:
    return (
        len(columns) > 1
        and len(columns[0]) > 0
        and all(_is_binary(column) for column in columns)
        and bool((np.stack(columns, 1).astype(np.int64).sum(1) == 1).all())
    )


def _hot(columns: list[np.ndarray]) -> np.ndarray:
    """(N,) int64: the place of the 1 in each row."""
    places: np.ndarray = np.stack(columns, 1).astype(np.int64).argmax(1)
    return places


def _known_one_hot(columns: list[np.ndarray], label_names: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Classes of new data in the same form."""
    if len(columns) != len(label_names):
        raise InputError(f"the targets have {len(columns)} columns, but the model knows {len(label_names)} classes")
    if not _is_one_hot(columns):
        raise InputError(f"the targets {', '.join(names)} must have exactly one 1 in each row, as in the training data")
    # The model's classes may stand in another order than the columns: data.positive makes its class the second.
    labels = list(names) if set(names) == set(label_names) else [str(position) for position in range(len(columns))]
    codes = np.array(
        [label_names.index(label) if label in label_names else position for position, label in enumerate(labels)]
    )
    as_classes: np.ndarray = codes[_hot(columns)].astype(np.int64)
    return as_classes


def _is_binary(column: np.ndarray) -> bool:
    return column.dtype.kind in "biuf" and bool(np.isin(column, (0, 1)).all())


def _classes(columns: list[np.ndarray], name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    column = columns[0]
    if column.dtype.kind == "f" and not np.all(column == np.floor(column)):
        raise InputError(
            f"target '{name}' holds fractions such as {column[column != np.floor(column)][0]:g}, which are no classes; "
            "write 'task: regression'"
        )
    if column.dtype.kind not in "biufU":
        column = np.array([label_text(value) for value in column])
    classes, codes = np.unique(column, return_inverse=True)
    if len(classes) < 2:
        holds = f"only one class, '{label_text(classes[0])}'" if len(classes) else "no value"
        raise InputError(f"target '{name}' has {holds}; classification needs two or more")
    return codes.astype(np.int64), tuple(label_text(value) for value in classes)


def _known_classes(column: np.ndarray, label_names: Sequence[str], name: str) -> np.ndarray:
    classes, codes = np.unique(np.array([label_text(value) for value in column]), return_inverse=True)
    index = {label: number for number, label in enumerate(label_names)}
    for label in classes:
        if str(label) not in index:
            row = int(np.flatnonzero(classes[codes] == label)[0]) + 1
            known = ", ".join(label_names[:10]) + (", ..." if len(label_names) > 10 else "")
            raise InputError(
                f"target '{name}' has '{label}' in data row {row}, a class that the model does not know."
                f"{did_you_mean(str(label), label_names)} It knows: {known}"
            )
    return np.array([index[str(label)] for label in classes], np.int64)[codes]


def _binary(columns: list[np.ndarray], names: Sequence[str]) -> np.ndarray:
    for name, column in zip(names, columns, strict=True):
        if not _is_binary(column):
            raise InputError(f"label '{name}' holds values other than 0 and 1 (or true and false)")
    return np.stack(columns, 1).astype(np.int64)


def _numbers(column: np.ndarray, name: str) -> np.ndarray:
    if column.dtype.kind not in "biuf":
        numbers = pd.to_numeric(pd.Series(column, dtype=object), errors="coerce").to_numpy(np.float64)
        bad = np.flatnonzero(np.isnan(numbers))
        if len(bad):
            raise InputError(
                f"target '{name}' has {str(column[bad[0]])!r} in data row {bad[0] + 1}, which is no number; "
                "regression needs numbers (for classes write 'task: classification')"
            )
        column = numbers
    column = column.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(column))
    if len(bad):
        raise InputError(f"target '{name}' is {column[bad[0]]} in data row {bad[0] + 1}; it must be finite")
    return column
