"""Tables: from a file's cells to RawData, with what the user should know of how they were understood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelopt_cli.core.errors import InputError, MissingExtraError, did_you_mean
from modelopt_cli.data.aside import order_in_time
from modelopt_cli.data.columns import (
    PLAIN,
    ColumnKind,
    Notation,
    as_numbers,
    data_row,
    dates_among,
    kinds_of,
    label_text,
    number_column,
    shown,
    text_column,
)
from modelopt_cli.data.csv_files import CsvForm, cells_of, lines_of, read_csv
from modelopt_cli.data.file_kinds import HEAD, refuse_other_kinds
from modelopt_cli.data.jsonl_files import read_jsonl
from modelopt_cli.data.missing import OTHERS, check_classes, check_refused, complete_rows, policies, told_dropped
from modelopt_cli.data.odd_cells import OddCells, odd_cells
from modelopt_cli.data.opening import table_suffix
from modelopt_cli.data.raw import RawData
from modelopt_cli.data.targets import interpret

if TYPE_CHECKING:
    from modelopt_cli.data.sources._table import TableSource

JSONL = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
_SEVERAL = (list, tuple, dict, set, np.ndarray)
"""What a cell of parquet and of JSON lines may hold that is no single value."""


@dataclass(frozen=True, eq=False)
class Table:
    """A frame, and what is known of where its cells came from."""

    frame: pd.DataFrame
    what: str  # how messages call it
    notation: Notation = PLAIN
    typed: bool = True  # cells have types of their own, as in parquet; else kinds are read off their texts
    usual: bool = False  # cells such as NA and None are missing because nothing else was said
    lines: Callable[[Collection[int]], Mapping[int, int]] | None = None  # rows -> lines of the file
    written: Callable[[Sequence[str]], pd.DataFrame] | None = None  # columns with their cells as they stand in the file
    _found: dict[int, int] = field(default_factory=dict)  # rows -> lines, as far as they were asked for

    def where(self, row: int) -> str:
        """Where a row stands, in words."""
        self.find([row])
        return f"line {self._found[row]}" if row in self._found else data_row(row)

    def place(self, row: int) -> str:
        """The same, with the number of the row."""
        self.find([row])
        return data_row(row) + (f" (line {self._found[row]})" if row in self._found else "")

    def find(self, rows: Iterable[int]) -> None:
        """Look the places of these rows up at once."""
        new = [row for row in rows if row not in self._found]
        if new and self.lines is not None:
            self._found.update(self.lines(new))

    def missing_texts(self, column: str) -> Counter[str]:
        """How a column's missing cells read where they are not empty: `NA`, `None`."""
        missing = self.frame[column].isna().to_numpy(bool)
        if self.written is None or not missing.any():
            return Counter()
        cells = self.written([column])[column].to_numpy()[missing]
        return Counter(cell.strip() for cell in cells if cell.strip())


def read_text_table(path: Path, form: CsvForm, texts: Collection[str] = (), **known: Any) -> Table:
    """A CSV, TSV or JSON-lines file, plain or packed; `texts`, `known`: see read_csv."""
    if table_suffix(path) in JSONL:
        return jsonl_table(path, form.notation, form.missing or ())
    return Table(
        read_csv(path, form, texts, **known),
        f"'{path}'",
        form.notation,
        typed=False,
        usual=form.missing is None,
        lines=lambda rows: lines_of(path, form, rows),
        written=lambda columns: cells_of(path, form, columns),
    )


def jsonl_table(path: Path, notation: Notation, missing: Sequence[str] = ()) -> Table:
    """A file of JSON lines."""
    frame, numbers = read_jsonl(path)
    return Table(
        mark_missing(frame, missing), f"'{path}'", notation, lines=lambda rows: {row: numbers[row] for row in rows}
    )


def read_parquet(path: Path, *, may_be_empty: bool = False) -> pd.DataFrame:
    """The file as a frame. Raises MissingExtraError without pyarrow, InputError where it is damaged."""
    try:
        import pyarrow
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet") from None
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
        frame = pd.read_parquet(path, engine="pyarrow")
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if not head.startswith(b"PAR1"):
            refuse_other_kinds(head, f"'{path}'")
        raise InputError(f"'{path}' cannot be read as parquet: {error}") from None
    if len(frame) == 0 and not may_be_empty:
        raise InputError(f"'{path}' has no rows")
    frame.columns = frame.columns.map(str)
    return frame


def mark_missing(frame: pd.DataFrame, marks: Sequence[str]) -> pd.DataFrame:
    """The frame with cells that read like one of `marks` missing; a mark that is a number means that number too."""
    if not marks:
        return frame
    numbers = [number for number in PLAIN.numbers(marks) if not np.isnan(number)]
    columns: dict[str, Any] = {}
    for name in frame.columns:
        column = frame[name]
        is_number = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
        if is_number:
            marked = column.isin(numbers).to_numpy(bool)
        else:
            marked = np.array([isinstance(cell, str) and cell in marks for cell in column], bool)
        columns[name] = column.mask(marked) if marked.any() else column
    return pd.DataFrame(columns)


def table_to_raw(table: Table, source: TableSource, targets: Sequence[str]) -> RawData:
    """Features, targets and weights as `source` names them. The fingerprint is the caller's.

    Raises InputError: a column that is not there or cannot be used, values that must not be missing, a target whose
    cells are mostly numbers but not all.
    """
    aside = source.columns_aside()
    weights = [] if source.weights is None else [source.weights]
    check_columns(table.frame, [*targets, *source.drop, *source.categories, *weights, *aside], table.what)
    check_unique(table)
    apart = {*targets, *source.drop, *weights, *(name for name in aside if name not in source.keep)}
    features = [str(name) for name in table.frame.columns if name not in apart]
    if not features:
        raise InputError(f"{table.what} has no column besides target, weights and dropped ones; a model needs features")
    _check_named(table, features)
    check_not_target(aside, targets)
    table = _with_numbers(table, features, targets, source.categories)
    kinds = kinds_of(table.frame, [*features, *targets, *weights], typed=table.typed, notation=table.notation)
    notes = check_targets(table, targets, source.task, kinds)
    notes += told_features(table, [name for name in features if name not in source.categories], kinds)
    complete, dropped = _without_missing(table, source, features, targets, weights, kinds)
    frame = complete.frame
    meaning = interpret(frame[list(targets)], source.task, targets)
    notes += meaning.notes
    if dropped and meaning.task == "classification" and len(targets) == 1:
        before = Counter(label_text(cell) for cell in table.frame[targets[0]].dropna())
        check_classes(before, meaning.label_names, targets[0], dropped)
    if len(frame) < len(table.frame):
        notes.append(_told_dropped(table, complete, dropped))
    return RawData(
        inputs=features_of(complete, features, kinds, source.categories, source.max_categories),
        targets=meaning.values,
        task=meaning.task,
        label_names=meaning.label_names,
        feature_names=tuple(features),
        weights=None if source.weights is None else sample_weights(frame[source.weights], source.weights, table),
        target_names=tuple(targets),
        kinds=kinds,
        notes=tuple(notes),
        aside={name: frame[name].to_numpy() for name in aside},
        order=None if source.time is None else order_in_time(frame[source.time], source.time),
    )


def check_not_target(aside: Iterable[str], targets: Sequence[str]) -> None:
    """Raises InputError where samples would be set apart by what is to be predicted."""
    for name in aside:
        if name in targets:
            raise InputError(
                f"column '{name}' is the target, by which samples are not grouped or ordered: a model would be judged "
                "on classes or values that it never saw; name another column for groups, time and aside"
            )


def check_columns(frame: pd.DataFrame, wanted: Iterable[str], what: str) -> None:
    """Raises InputError naming the nearest column, and all of them, where one is not there."""
    names = [str(name) for name in frame.columns]
    for name in wanted:
        if name not in names:
            listed = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
            hint = ""
            if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
                hint = " The header is not split: set 'separator'."
            raise InputError(f"{what} has no column '{name}'.{did_you_mean(name, names)}{hint} Its columns: {listed}")


def features_of(
    table: Table,
    names: Sequence[str],
    kinds: Mapping[str, ColumnKind],
    categories: Collection[str] = (),
    most: int = 1000,
) -> np.ndarray | pd.DataFrame:
    """(N, features) float64 where all columns are numbers, else a frame of float64 and text columns (None: missing).

    `most`: different texts that a column may hold.
    """
    columns: dict[str, Any] = {}
    for name in names:
        column = table.frame[name]
        if name in categories or not pd.api.types.is_numeric_dtype(column.dtype):
            columns[name] = _category_column(table, column, name, kinds[name], most)
        else:
            columns[name] = number_column(column, name, where=table.place)
    if all(values.dtype == np.float64 for values in columns.values()):
        return np.stack(list(columns.values()), 1)
    return pd.DataFrame(columns)


def check_targets(table: Table, names: Sequence[str], task: str, kinds: Mapping[str, ColumnKind]) -> list[str]:
    """Notes on targets that are classes though most of their cells are numbers; without `task: classification` an
    InputError, for a target that should be numbers would become hundreds of classes.
    """
    notes = []
    for name in names:
        column = table.frame[name]
        if any(isinstance(cell, _SEVERAL) for cell in column):
            raise InputError(f"{table.what}: target '{name}' holds lists or objects, which are no single values")
        count, cells = dates_among(column), int(column.notna().sum())
        if count * 2 > cells and task not in ("classification", "multilabel"):
            raise InputError(
                f"{table.what}: target '{name}' holds dates ({count} of {cells} cells), which no model predicts; turn "
                "them into numbers, such as days since the first; if they are classes write data.task: classification"
            )
        odd = _odd(table, name, kinds)
        if odd is None:
            continue
        what_is_odd, remedies = odd.told(table.where), odd.remedies()
        if task not in ("classification", "multilabel"):
            if odd.odd:
                remedies[-1] += f", and data.missing: {{{name}: drop}}"
            remedies.append("if the cells are classes write data.task: classification")
            raise InputError(f"{table.what}: target '{name}' is text, though {what_is_odd}; {'; '.join(remedies)}")
        notes.append(f"target '{name}' is taken as classes, though {what_is_odd}; for numbers {'; '.join(remedies)}")
    return notes


def told_features(table: Table, names: Sequence[str], kinds: Mapping[str, ColumnKind]) -> list[str]:
    """Notes on features that become categories though most of their cells are numbers."""
    notes = []
    for name in names:
        odd = _odd(table, name, kinds)
        if odd is not None:
            notes.append(
                f"column '{name}' is taken as text, each different cell a category, though {odd.told(table.where)}; "
                f"{'; '.join(odd.remedies())}; if it is a category write data.categories: [{name}]"
            )
            continue
        count, cells = dates_among(table.frame[name]), int(table.frame[name].notna().sum())
        if count * 2 > cells:
            notes.append(
                f"column '{name}' is taken as text, each different cell a category, though {count} of {cells} cells "
                f"are dates; turn them into numbers or write data.drop: [{name}]; if it says in which order samples "
                f"came write data.time: {name}; if it is a category write data.categories: [{name}]"
            )
    return notes


def sample_weights(column: pd.Series[Any], name: str, table: Table) -> np.ndarray:
    """(N,) weights, 0 or more."""
    values = number_column(column, name, "number", table.notation)
    bad = np.flatnonzero(~(values >= 0))
    if len(bad):
        raise InputError(f"weights column '{name}' is {values[bad[0]]} in data row {bad[0] + 1}; weights are 0 or more")
    if not values.any():
        raise InputError(f"weights column '{name}' is 0 everywhere; some sample must count")
    return values


def check_unique(table: Table) -> None:
    """Raises InputError where two columns have one name."""
    columns = table.frame.columns
    if not columns.is_unique:
        twice = columns[columns.duplicated()][0]
        raise InputError(f"{table.what} has two columns named '{twice}'; give each its own name")


def _check_named(table: Table, features: Sequence[str]) -> None:
    for name in features:
        if name.startswith("Unnamed: "):
            raise InputError(
                f"{table.what} has a column without a name (an index?); name it, or write drop: ['{name}']"
            )


def _with_numbers(table: Table, features: Sequence[str], targets: Sequence[str], categories: Collection[str]) -> Table:
    """Columns of numbers as numbers, that pandas holds as something else.

    With thousands marks, with more digits than 64 bits hold (of features alone: such a target is a name), and Decimal.
    """
    frame = table.frame.copy(deep=False)
    for name in frame.columns:
        if name in categories:
            continue
        texts = None if table.typed and table.notation.thousands is None else table.notation
        if table.notation.thousands is None and name not in features:
            texts = None
        if name in targets and all(isinstance(cell, str | int) for cell in frame[name].dropna()) and texts is None:
            continue
        frame[name] = as_numbers(frame[name], texts=texts)
    return replace(table, frame=frame)


def _odd(table: Table, name: str, kinds: Mapping[str, ColumnKind]) -> OddCells | None:
    odd = odd_cells(table.frame[name], table.notation) if kinds[name] == "text" else None
    if odd is not None:
        table.find(odd.rows)
    return odd


def _category_column(table: Table, column: pd.Series[Any], name: str, kind: ColumnKind, most: int) -> np.ndarray:
    if any(isinstance(value, _SEVERAL) for value in column):
        raise InputError(f"column '{name}' holds lists or objects, which are no single values; split it or drop it")
    if table.typed and dates_among(column[[not isinstance(cell, str) for cell in column]]):
        raise InputError(f"column '{name}' holds dates, which no model takes; turn it into numbers or drop it")
    values = text_column(column, kind, table.notation)
    different = len({value for value in values if value is not None})
    if different > most:
        odd = odd_cells(column, table.notation) if kind == "text" else None
        hint = "" if odd is None else f" ({odd.told(table.where)}: {'; '.join(odd.remedies())})"
        raise InputError(
            f"column '{name}' holds {different} different texts, more than max_categories = {most}; "
            f"name it under 'drop', clean it if it should be numbers, or raise max_categories{hint}"
        )
    return values


def _without_missing(
    table: Table,
    source: TableSource,
    features: Sequence[str],
    targets: Sequence[str],
    weights: Sequence[str],
    kinds: Mapping[str, ColumnKind],
) -> tuple[Table, list[str]]:
    """The rows that stay, and the columns whose missing values took others. Raises InputError where none may miss."""
    asked = source.missing
    if not isinstance(asked, str):
        check_columns(table.frame, [name for name in asked if name != OTHERS], table.what)
    policy = policies(asked, features, [*targets, *weights])
    check_refused(table.frame, [name for name in features if policy[name] == "refuse"], table.what)
    for name in targets:
        _check_target_complete(table, name, kinds[name], drops=policy[name] == "drop")
    dropping = [name for name, what in policy.items() if what == "drop"]
    kept = complete_rows(table.frame, dropping)
    if not kept.any():
        raise InputError(f"{table.what} has no rows{' without missing values' if dropping else ''}")
    if kept.all():
        return table, []
    rows = np.flatnonzero(kept)
    lines = table.lines
    moved = replace(
        table,
        frame=table.frame.loc[kept].reset_index(drop=True),
        lines=None if lines is None else lambda some: _moved(lines, rows, some),
        _found={},
    )
    counts = table.frame[dropping].isna().any()
    return moved, [name for name in dropping if counts[name]]


def _moved(
    lines: Callable[[Collection[int]], Mapping[int, int]], rows: np.ndarray, some: Collection[int]
) -> Mapping[int, int]:
    line_of = lines([int(rows[row]) for row in some])
    return {row: line_of[int(rows[row])] for row in some if int(rows[row]) in line_of}


def _told_dropped(table: Table, complete: Table, dropped: Sequence[str]) -> str:
    def written(name: str) -> str:
        texts = table.missing_texts(name)
        return f": {', '.join(shown(text) for text, _ in texts.most_common(3))}" if texts else ""

    return told_dropped(table.frame, dropped, len(table.frame) - len(complete.frame), written)


def _check_target_complete(table: Table, name: str, kind: ColumnKind, *, drops: bool) -> None:
    """Raises InputError where the target has missing values, unless those rows are dropped.

    Cells such as None that nobody named as missing may be a class: where the other cells are texts they are not dropped
    unasked.
    """
    missing = np.flatnonzero(table.frame[name].isna().to_numpy(bool))
    if not len(missing) or (drops and not (table.usual and kind == "text")):
        return
    texts = table.missing_texts(name)
    if drops and not texts:
        return
    count = len(missing)
    reads = ", ".join(f"{shown(text)} ({number})" for text, number in texts.most_common(3))
    some = "all of them" if sum(texts.values()) == count else f"{sum(texts.values())} of them"
    as_class = (
        f"; {some} read {reads}, which means missing unless data.missing_values says otherwise: if it is a class, "
        "write 'missing_values: []' (or list what is missing)"
        if texts and table.usual
        else ""
    )
    if drops:
        listed = ", ".join(f'"{text}"' for text in texts)
        raise InputError(
            f"{table.what}: dropping the rows without target '{name}' would take {count}{as_class}; if they are "
            f"missing, write 'missing_values: [{listed}]' (and what else means missing in the file)"
        )
    first = data_row(int(missing[0]))
    first_missing = table.where(int(missing[0]))
    first_missing = first if first_missing == first else f"{first_missing}, {first}"
    raise InputError(
        f"target '{name}' has {count} missing values (empty, NA or nan), the first in {first_missing}{as_class}; fill "
        f"them in, or drop the rows with 'missing: drop', or "
        f"with 'missing: {{{name}: drop}}' those without a target alone"
    )
