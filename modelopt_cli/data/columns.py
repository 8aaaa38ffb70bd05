"""What the cells of a column are: numbers, truth values or texts; and one reading of a cell wherever it comes from.

A column's kind is found once, in the training data. From then on a cell is read by that kind, whatever the other cells
of its file are: `02139` stays the text that it was learnt as, though a file of nothing but digits looks like numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from modelopt_cli.core.errors import InputError

ColumnKind = Literal["number", "truth", "text"]
Where = Callable[[int], str]
"""Row of a frame -> where it stands, in words: `line 12`."""

_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?inf(?:inity)?", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_FRACTION = re.compile(r"(-?(?:0|[1-9]\d*))(\.\d+)?", re.ASCII)
_DATE = re.compile(
    r"(?:\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\d{1,2}\2\d{4})"
    r"(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?",
    re.ASCII,
)
_DATES = (date, time, timedelta)  # datetime is a date
_NUMBERS = (int, float, np.number, Decimal)
_TRUE, _FALSE = ("True", "TRUE", "true"), ("False", "FALSE", "false")
_SPACES = " \u00a0\u2009\u202f"


def data_row(row: int) -> str:
    """Where a row stands, when nothing more is known."""
    return f"data row {row + 1}"


@dataclass(frozen=True)
class Notation:
    """How numbers are written in a file."""

    decimal: str = "."
    thousands: str | None = None

    def number(self, text: str) -> float:
        """NaN where it is no number so written. A thousands mark must stand before groups of three digits."""
        text = text.strip()
        if self.thousands is not None and any(mark in text for mark in self._marks):
            if not self._grouped.fullmatch(text):
                return np.nan
            for mark in self._marks:
                text = text.replace(mark, "")
        if self.decimal != ".":
            if "." in text:
                return np.nan
            text = text.replace(self.decimal, ".")
        return float(text) if _PLAIN.fullmatch(text) else np.nan

    def numbers(self, texts: Iterable[str]) -> np.ndarray:
        """(N,) float64, NaN for what is no number."""
        known: dict[str, float] = {}
        numbers = []
        for text in texts:
            if text not in known:
                known[text] = self.number(text)
            numbers.append(known[text])
        return np.array(numbers, np.float64)

    def canonical(self, text: str) -> str:
        """The text of a number as `label_text` gives it, so that 1, 01 and 1.0 are the same; others as they are."""
        plain = text.strip()
        if _WHOLE.fullmatch(plain):  # exactly, however long
            return str(int(plain))
        number = self.number(text)
        return text if np.isnan(number) else label_text(number)

    @cached_property
    def _marks(self) -> str:
        """Spaces of any width mean the same."""
        return _SPACES if self.thousands in tuple(_SPACES) else str(self.thousands)

    @cached_property
    def _grouped(self) -> re.Pattern[str]:
        """Groups of three; after a comma also of two but for the last, as in India."""
        mark, point = f"[{re.escape(self._marks)}]", re.escape(self.decimal)
        inner = r"\d{2,3}" if self.thousands == "," else r"\d{3}"
        return re.compile(rf"[+-]?\d{{1,3}}(?:{mark}{inner})*{mark}\d{{3}}(?:{point}\d*)?", re.ASCII)


PLAIN = Notation()


def label_text(value: Any) -> str:
    """A class or category as text: whole numbers without a fraction, so that 3 and 3.0 are the same."""
    if isinstance(value, float | np.floating | Decimal) and float(value).is_integer():
        return str(int(value))
    return str(value)


def kind_of_column(column: pd.Series[Any], *, typed: bool = True, notation: Notation = PLAIN) -> ColumnKind:
    """The kind of a column by its type; not `typed`: its texts are cells of a file that does not tell types apart."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return "truth"
    if pd.api.types.is_numeric_dtype(column.dtype):
        return "number"
    try:
        cells = pd.unique(column.dropna())
    except TypeError:  # lists and the like, which are refused later
        return "text"
    if len(cells) == 0:
        return "text"
    if all(isinstance(cell, bool | np.bool_) for cell in cells):
        return "truth"
    if typed or not all(isinstance(cell, str) for cell in cells):
        return "text"
    if all(cell in _TRUE or cell in _FALSE for cell in cells):
        return "truth"
    return "text" if np.isnan(notation.numbers(cells)).any() else "number"


def as_numbers(column: pd.Series[Any], *, texts: Notation | None = None) -> pd.Series[Any]:
    """A column of numbers that pandas holds as objects (Decimal, whole numbers of more than 64 bits) as float64.

    `texts`: texts that are numbers in this notation count too. A column of anything else is returned as it is.
    """
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column
    present = column.dropna()
    if texts is not None and len(present) and all(isinstance(cell, str) for cell in present):
        numbers = texts.numbers(present)
    elif len(present) and all(isinstance(cell, _NUMBERS) and not isinstance(cell, bool | np.bool_) for cell in present):
        numbers = np.array([_number(cell, "number", PLAIN) for cell in present], np.float64)
    else:
        return column
    if np.isnan(numbers).any():
        return column
    return pd.Series(numbers, present.index, name=column.name).reindex(column.index)


def dates_among(column: pd.Series[Any]) -> int:
    """How many of its cells are dates or times, as texts too (2024-12-31, 2024-12-31T23:59:59, 31.12.2024)."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype) or pd.api.types.is_timedelta64_dtype(column.dtype):
        return int(column.notna().sum())
    if pd.api.types.is_numeric_dtype(column.dtype):
        return 0
    counts = Counter(cell for cell in column.dropna() if isinstance(cell, (str, *_DATES)))
    return sum(count for cell, count in counts.items() if isinstance(cell, _DATES) or _DATE.fullmatch(cell.strip()))


def kind_of_texts(texts: Iterable[str]) -> ColumnKind:
    """The kind of a column whose categories or classes are these, for models that do not say it."""
    listed = list(texts)
    if listed and all(text in ("True", "False") for text in listed):
        return "truth"
    numeric = listed and all(not np.isnan(PLAIN.number(text)) and PLAIN.canonical(text) == text for text in listed)
    return "number" if numeric else "text"


def number_column(
    column: pd.Series[Any],
    name: str,
    kind: ColumnKind | None = None,
    notation: Notation = PLAIN,
    where: Where = data_row,
) -> np.ndarray:
    """(N,) float64 with NaN for what is missing. Raises InputError at text and at infinite values.

    `kind` number: truth values are none; None: they count as 0 and 1.
    """
    truth = pd.api.types.is_bool_dtype(column.dtype)
    if pd.api.types.is_numeric_dtype(column.dtype) and not (truth and kind == "number"):
        values: np.ndarray = column.to_numpy(np.float64, na_value=np.nan)
    else:
        missing = column.isna().to_numpy(bool)
        values = np.array(
            _each(column, missing, lambda cell: np.nan if cell is None else _number(cell, kind, notation)), np.float64
        )
        bad = np.flatnonzero(np.isnan(values) & ~missing)
        if len(bad):
            raise InputError(
                f"column '{name}' has {shown(column.iloc[bad[0]])} in {where(int(bad[0]))}; it must be a number"
            )
    bad = np.flatnonzero(np.isinf(values))
    if len(bad):
        raise InputError(
            f"column '{name}' is infinite in {where(int(bad[0]))}; replace it, or leave the cell empty (missing)"
        )
    return values


def text_column(
    column: pd.Series[Any], kind: ColumnKind = "text", notation: Notation = PLAIN, learnt: Sequence[str] = ()
) -> np.ndarray:
    """(N,) objects: text, or None for what is missing; numbers and truth values in one form, whoever wrote them.

    `learnt`: the texts that a model knows: a cell that is none of them but for zeros at the end of a fraction is it.
    """
    missing = column.isna().to_numpy(bool)
    values = np.empty(len(column), object)
    exact, forms = set(learnt), {_shorter(text): text for text in learnt}

    def read(cell: Any) -> str | None:
        text = None if cell is None else _text(cell, kind, notation)
        return text if text is None or text in exact else forms.get(_shorter(text), text)

    values[:] = _each(column, missing, read)
    return values


def _each(column: pd.Series[Any], missing: np.ndarray, read: Callable[[Any], Any]) -> list[Any]:
    """What `read` makes of each cell (None: missing), asked once for cells that are the same."""
    known: dict[Any, Any] = {}
    texts = []
    for absent, cell in zip(missing.tolist(), column.tolist(), strict=True):
        key = None if absent else cell if type(cell) is str else (type(cell), str(cell))
        if key not in known:
            known[key] = read(None if absent else cell)
        texts.append(known[key])
    return texts


def shown(cell: Any, most: int = 40) -> str:
    """A cell for a message: quoted, its control characters escaped, cut."""
    text = str(cell)
    return repr(text if len(text) <= most else text[:most] + "…")


def _number(cell: Any, kind: ColumnKind | None, notation: Notation) -> float:
    if isinstance(cell, bool | np.bool_):
        return np.nan if kind == "number" else float(cell)
    if isinstance(cell, str):
        if kind != "number" and cell.strip() in (*_TRUE, *_FALSE):
            return float(cell.strip() in _TRUE)
        return notation.number(cell)
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return np.nan


def _text(cell: Any, kind: ColumnKind, notation: Notation) -> str:
    if not isinstance(cell, str) or kind == "text":
        return label_text(cell)
    if kind == "truth":
        bare = cell.strip()
        return "True" if bare in _TRUE else "False" if bare in _FALSE else cell
    return notation.canonical(cell)


def _shorter(text: str) -> str:
    """`3.50` as `3.5`, and `1.0` as `1`: what a program makes of a number that it read and wrote. No leading zeros."""
    match = _FRACTION.fullmatch(text)
    if match is None or match[2] is None:
        return text
    return match[1] + match[2].rstrip("0").rstrip(".")


def kinds_of(
    frame: pd.DataFrame, names: Iterable[str], *, typed: bool = True, notation: Notation = PLAIN
) -> Mapping[str, ColumnKind]:
    """Column -> kind."""
    return {name: kind_of_column(frame[name], typed=typed, notation=notation) for name in names}
