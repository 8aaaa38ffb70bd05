"""Delimited text (CSV, TSV), plain or packed, as a frame: types inferred by pandas, but for columns kept as text."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd

from modelopt_cli.core.errors import InputError
from modelopt_cli.data.columns import PLAIN, Notation
from modelopt_cli.data.file_kinds import encoding_by_marks, is_json
from modelopt_cli.data.opening import check_text, codec_of, head_of, is_packed, open_bytes, open_text

USUAL_MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"),
    *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)
"""Cells that mean a missing value unless the file says otherwise: pandas' list."""


@dataclass(frozen=True)
class CsvForm:
    """How a file is written."""

    separator: str = ","
    encoding: str = "utf-8"
    notation: Notation = PLAIN
    missing: tuple[str, ...] | None = None  # texts that mean a missing value, beside an empty cell; None: the usual

    @property
    def marks(self) -> tuple[str, ...]:
        """The cells that mean a missing value."""
        return USUAL_MISSING if self.missing is None else ("", *self.missing)


def read_csv(
    path: Path,
    form: CsvForm,
    texts: Collection[str] = (),
    learnt: Mapping[str, Collection[str]] | None = None,
    may_be_empty: bool = False,
) -> pd.DataFrame:
    """The file as a frame. `texts`: columns whose cells are kept as they are written.

    `learnt`: texts of a column that a model knows, so that they mean themselves and nothing missing. `may_be_empty`: a
    header without rows will do.
    Raises InputError: not text, empty, ragged rows, duplicate column names; RefusedError: it unpacks without end.
    """
    codec = check_csv(path, form.encoding)
    header = _check_rows(path, form.separator, codec, may_be_empty)
    marks: Any = list(form.marks)
    kept = {name: [mark for mark in marks if mark not in known] for name, known in (learnt or {}).items()}
    if any(len(of_column) < len(marks) for of_column in kept.values()):
        marks = {name: kept.get(name, marks) for name in header}
    try:
        with _source(path) as source:
            return pd.read_csv(
                source,
                sep=form.separator,
                decimal=form.notation.decimal,
                encoding=codec,
                compression=None,  # what is packed is known by its first bytes
                index_col=False,
                skipinitialspace=True,
                low_memory=False,
                dtype=dict.fromkeys((name for name in header if name in texts), str),
                na_values=marks,
                keep_default_na=False,
            )
    except (ValueError, OSError) as error:  # pandas' own parser errors are ValueErrors
        raise InputError(f"'{path}' cannot be read as CSV: {error}") from None


def check_csv(path: Path, encoding: str) -> str:
    """The codec to read the file with. Raises InputError where it is no CSV, naming what it is."""
    if is_json(head_of(path)):
        raise InputError(f"'{path}' is JSON, no CSV; write an object a line, and let the file's name end in .jsonl")
    return check_text(path, encoding)


def cells_of(path: Path, form: CsvForm, columns: Sequence[str]) -> pd.DataFrame:
    """Some columns with the cells as they are written, missing values too."""
    with _source(path) as source:
        return pd.read_csv(
            source,
            sep=form.separator,
            encoding=check_text(path, form.encoding),
            compression=None,
            index_col=False,
            skipinitialspace=True,
            usecols=lambda name: name in columns,
            dtype=str,
            na_filter=False,
        )


def lines_of(path: Path, form: CsvForm, rows: Collection[int]) -> dict[int, int]:
    """The lines that data rows (from 0) stand in: of the file, from 1; where a row has several, the last one."""
    wanted, lines, row = set(rows), {}, -1
    with open_text(path, check_text(path, form.encoding)) as file:
        reader = csv.reader(file, delimiter=form.separator, skipinitialspace=True)
        for cells in reader:
            if not cells:
                continue
            if row in wanted:
                lines[row] = reader.line_num
            row += 1
            if row > max(wanted, default=-1) + 1:
                break
    return lines


def header_of(path: Path, separator: str, encoding: str) -> list[str]:
    """The column names; none where it is no CSV, which reading it will say."""
    try:
        with open_text(path, check_csv(path, encoding)) as file:
            return next(csv.reader(file, delimiter=separator, skipinitialspace=True), [])
    except (UnicodeError, csv.Error, InputError):
        return []


@contextmanager
def _source(path: Path) -> Iterator[Path | IO[bytes]]:
    """What pandas reads from: the file itself (faster), or what is packed in it."""
    if not is_packed(path):
        yield path
        return
    with open_bytes(path) as stream:
        yield stream


def _check_rows(path: Path, separator: str, codec: str, may_be_empty: bool = False) -> list[str]:
    """The column names. Raises InputError where rows differ in length: pandas fills short ones silently.

    Costs about pandas' own time.
    """
    try:
        with open_text(path, codec) as file:
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
    except UnicodeError as error:
        raise InputError(
            f"'{path}' is no {codec.removesuffix('-sig')} text ({error}); set 'encoding', e.g. cp1252 (Windows) or "
            "latin-1"
        ) from None
    except csv.Error as error:
        raise InputError(f"'{path}' is no CSV: {error}") from None
    if rows == 0 and not (may_be_empty and header):
        raise InputError(f"'{path}' is empty: it has a header and no rows" if header else f"'{path}' is empty")
    return header


def _check_header(header: list[str], path: Path) -> None:
    twice = [name for position, name in enumerate(header) if name and name in header[:position]]
    if twice:
        raise InputError(f"'{path}' has two columns named '{twice[0]}'; give each its own name")


def new_encoding(path: Path, learnt: str) -> str:
    """The encoding of new data: that of the training data, unless a byte order mark or zero bytes say otherwise."""
    marked = encoding_by_marks(head_of(path))
    if marked is not None:
        return marked
    return "utf-8" if codec_of(learnt, path).startswith(("utf-16", "utf-32")) else learnt
