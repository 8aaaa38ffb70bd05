"""Tables: CSV and parquet files to frames, and frames to RawData."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelopt_cli.core.errors import InputError, MissingExtraError, did_you_mean
from modelopt_cli.data.files import read_bytes
from modelopt_cli.data.raw import RawData
from modelopt_cli.data.targets import interpret, label_text

if TYPE_CHECKING:
    from modelopt_cli.data.sources._table import TableSource


def read_csv(path: Path, separator: str = ",", decimal: str = ".", encoding: str = "utf-8") -> pd.DataFrame:
    """The file as a frame. Raises InputError: not text, empty, ragged rows, duplicate column names."""
    codec = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    _check_rows(path, separator, codec)
    try:
        return pd.read_csv(
            path,
            sep=separator,
            decimal=decimal,
            encoding=codec,
            index_col=False,
            skipinitialspace=True,
            low_memory=False,
        )
    except (ValueError, OSError) as error:  # pandas' own parser errors are ValueErrors
        raise InputError(f"'{path}' cannot be read as CSV: {error}") from None


def read_parquet(path: Path) -> pd.DataFrame:
    """The file as a frame. Raises MissingExtraError without pyarrow, InputError where it is damaged."""
    try:
        import pyarrow
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet") from None
    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read as parquet: {error}") from None
    if len(frame) == 0:
        raise InputError(f"'{path}' has no rows")
    frame.columns = frame.columns.map(str)
    return frame


def header_of(path: Path, separator: str, encoding: str = "utf-8-sig") -> list[str]:
    """The column names of a CSV file."""
    try:
        with path.open(encoding=encoding, newline="") as file:
            return next(csv.reader(file, delimiter=separator, skipinitialspace=True), [])
    except (UnicodeError, csv.Error, OSError, LookupError):
        return []


def table_to_raw(frame: pd.DataFrame, source: TableSource, targets: Sequence[str], what: str) -> RawData:
    """Features, targets and weights as `source` names them. The fingerprint is the caller's."""
    check_columns(frame, [*targets, *source.drop, *source.categories, *_weights_of(source)], what)
    frame = _without_missing(frame, source, targets, what)
    found = interpret(frame[list(targets)], source.task, targets)
    apart = {*targets, *source.drop, *_weights_of(source)}
    features = [str(name) for name in frame.columns if name not in apart]
    if not features:
        raise InputError(f"{what} has no column besides target, weights and dropped ones; a model needs features")
    return RawData(
        inputs=features_of(frame[features], source.categories, source.max_categories, what),
        targets=found.values,
        task=found.task,
        label_names=found.label_names,
        feature_names=tuple(features),
        weights=None if source.weights is None else _sample_weights(frame[source.weights], source.weights),
        target_names=tuple(targets),
    )


def check_columns(frame: pd.DataFrame, wanted: Iterable[str], what: str) -> None:
    """Raises InputError naming the nearest column, and all of them, where one is not there."""
    names = [str(name) for name in frame.columns]
    for name in wanted:
        if name not in names:
            shown = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
            hint = ""
            if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
                hint = " The header is not split: set 'separator'."
            raise InputError(f"{what} has no column '{name}'.{did_you_mean(name, names)}{hint} Its columns: {shown}")


def features_of(frame: pd.DataFrame, categories: Sequence[str], most: int, what: str) -> np.ndarray | pd.DataFrame:
    """(N, features) float64 where all columns are numbers, else a frame of float64 and text columns (None: missing)."""
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise InputError(f"{what} has two columns named '{twice}'; give each its own name")
    columns: dict[str, Any] = {}
    for name in frame.columns:
        column = frame[name]
        if str(name).startswith("Unnamed: "):
            raise InputError(f"{what} has a column without a name (an index?); name it, or write drop: ['{name}']")
        if name in categories or not pd.api.types.is_numeric_dtype(column.dtype):
            columns[name] = _category_column(column, str(name), most)
        else:
            columns[name] = number_column(column, str(name))
    if all(values.dtype == np.float64 for values in columns.values()):
        return np.stack(list(columns.values()), 1)
    return pd.DataFrame(columns)


def number_column(column: pd.Series[Any], name: str) -> np.ndarray:
    """(N,) float64 with NaN for what is missing. Raises InputError at text and at infinite values."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        values: np.ndarray = column.to_numpy(np.float64, na_value=np.nan)
    else:
        values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        bad = np.flatnonzero(np.isnan(values) & ~column.isna().to_numpy(bool))
        if len(bad):
            raise InputError(
                f"column '{name}' has {str(column.iloc[bad[0]])!r} in data row {bad[0] + 1}; it must be a number"
            )
    bad = np.flatnonzero(np.isinf(values))
    if len(bad):
        raise InputError(
            f"column '{name}' is infinite in data row {bad[0] + 1}; replace it, or leave the cell empty (missing)"
        )
    return values


def text_column(column: pd.Series[Any]) -> np.ndarray:
    """(N,) objects: text, or None for what is missing."""
    missing = column.isna().to_numpy(bool)
    values = np.empty(len(column), object)
    values[:] = [None if absent else label_text(value) for absent, value in zip(missing, column, strict=True)]
    return values


def _category_column(column: pd.Series[Any], name: str, most: int) -> np.ndarray:
    if pd.api.types.is_datetime64_any_dtype(column.dtype) or pd.api.types.is_timedelta64_dtype(column.dtype):
        raise InputError(f"column '{name}' holds dates, which no model takes; turn it into numbers or drop it")
    if any(isinstance(value, list | dict | np.ndarray) for value in column.head(100)):
        raise InputError(f"column '{name}' holds lists, which are no single values; split it or drop it")
    values = text_column(column)
    different = len({value for value in values if value is not None})
    if different > most:
        raise InputError(
            f"column '{name}' holds {different} different texts, more than max_categories = {most}; "
            "name it under 'drop', clean it if it should be numbers, or raise max_categories"
        )
    return values


def _weights_of(source: TableSource) -> list[str]:
    return [] if source.weights is None else [source.weights]


def _without_missing(frame: pd.DataFrame, source: TableSource, targets: Sequence[str], what: str) -> pd.DataFrame:
    features = frame.drop(columns=[*source.drop])
    if source.missing == "drop":
        frame = frame.loc[features.notna().all(axis=1)].reset_index(drop=True)
    elif source.missing == "refuse":
        counts = features.drop(columns=[*targets, *_weights_of(source)], errors="ignore").isna().sum()
        if counts.any():
            worst = str(counts.idxmax())
            raise InputError(
                f"{what} has missing values in {int((counts > 0).sum())} columns, most in '{worst}' ({counts[worst]}); "
                "fill them in, or write 'missing: impute' or 'missing: drop'"
            )
    if len(frame) == 0:
        raise InputError(f"{what} has no rows{' without missing values' if source.missing == 'drop' else ''}")
    return frame


def _sample_weights(column: pd.Series[Any], name: str) -> np.ndarray:
    values = number_column(column, name)
    bad = np.flatnonzero(~(values >= 0))
    if len(bad):
        raise InputError(f"weights column '{name}' is {values[bad[0]]} in data row {bad[0] + 1}; weights are 0 or more")
    if not values.any():
        raise InputError(f"weights column '{name}' is 0 everywhere; some sample must count")
    return values


def _check_rows(path: Path, separator: str, encoding: str) -> None:
    """Raises InputError where rows differ in length: pandas fills short ones silently. Costs about pandas' own time."""
    try:
        with path.open(encoding=encoding, newline="") as file:
            reader = csv.reader(file, delimiter=separator, skipinitialspace=True)
            header = next((row for row in reader if row), [])
            _check_header(header, path)
            rows = 0
            for row in reader:
                if len(row) != len(header) and row:
                    raise InputError(
                        f"'{path}', line {reader.line_num}: {len(row)} fields, but the header has {len(header)}; "
                        "mend the line, or set 'separator'"
                    )
                rows += bool(row)
    except (UnicodeError, LookupError) as error:
        remedy = "set 'encoding', e.g. latin-1"
        if read_bytes(path).startswith(b"\x1f\x8b"):
            remedy = "it is compressed: unpack it first"
        raise InputError(f"'{path}' is no {encoding} text ({error}); {remedy}") from None
    except csv.Error as error:
        raise InputError(f"'{path}' is no CSV: {error}") from None
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror or error}") from None
    if rows == 0:
        raise InputError(f"'{path}' is empty: it has a header and no rows" if header else f"'{path}' is empty")


def _check_header(header: list[str], path: Path) -> None:
    twice = [name for position, name in enumerate(header) if name and name in header[:position]]
    if twice:
        raise InputError(f"'{path}' has two columns named '{twice[0]}'; give each its own name")
