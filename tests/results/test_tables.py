"""A table is the same after its CSV, no cell of it runs in a spreadsheet, and no two columns share a name."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.results.report import Cell, Table
from modelopt_cli.results.tables import METRIC, as_csv, column_of, deviation_column, metric_column, neutral

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"))
FORMULAS = st.builds("".join, st.tuples(st.sampled_from("=+-@\t"), TEXTS))
CELLS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | TEXTS | FORMULAS


@st.composite
def tables(draw: st.DrawFn) -> Table:
    columns = draw(st.lists(TEXTS.filter(bool), min_size=1, max_size=4, unique=True))
    rows = draw(st.lists(st.lists(CELLS, min_size=len(columns), max_size=len(columns)), max_size=5))
    return Table(columns=columns, rows=rows)


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def all_of(table: Table) -> list[list[Cell]]:
    return [list(table.columns), *table.rows]


def expected(cell: Cell) -> str:
    """As RFC 4180's reader gives it; the apostrophe before a formula is in the file."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    text = str(cell)
    return f"'{text}" if isinstance(cell, str) and text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


@settings(max_examples=40)
@given(tables())
def test_a_reader_of_csv_finds_every_cell(table: Table) -> None:
    rows = read(as_csv(table))
    assert rows == [[expected(cell) for cell in row] for row in all_of(table)]


@settings(max_examples=40)
@given(tables())
def test_no_text_runs_as_a_formula(table: Table) -> None:
    for row, cells in zip(read(as_csv(table)), all_of(table), strict=True):
        for written, cell in zip(row, cells, strict=True):
            if isinstance(cell, str):
                assert not written.startswith(("=", "+", "-", "@", "\t", "\r"))


@given(st.floats(allow_nan=False))
def test_numbers_are_read_back_to_the_last_digit(value: float) -> None:
    text = as_csv(Table(columns=["a"], rows=[[value]])).splitlines()[1]
    assert float(text) == value


def test_lines_end_with_a_line_feed() -> None:
    assert as_csv(Table(columns=["a", "b"], rows=[[1, None], [True, "x"]])) == "a,b\n1,\ntrue,x\n"


def test_negative_numbers_are_no_formulas() -> None:
    assert [neutral(-1), neutral(-0.5), neutral("-1")] == [-1, -0.5, "'-1"]


NAMES = st.text("abc._", min_size=1, max_size=6) | st.builds(METRIC.__add__, st.text("abc", min_size=1, max_size=3))


@given(st.sets(NAMES, max_size=5), st.sets(NAMES, max_size=5))
def test_every_metric_has_a_column_of_its_own_and_is_found_by_it(own: set[str], metrics: set[str]) -> None:
    own = {name for name in own if not name.startswith(METRIC)}
    columns = [*own, *(metric_column(metric, own) for metric in sorted(metrics))]
    assert len(set(columns)) == len(columns)
    for metric in metrics:
        assert column_of(metric, columns) == metric_column(metric, own)


@pytest.mark.parametrize(
    ("name", "taken", "column"), [("loss", [], "loss_std"), ("loss", ["loss", "loss_std"], "loss_seeds_std")]
)
def test_deviations_have_a_column_of_their_own(name: str, taken: list[str], column: str) -> None:
    assert deviation_column(name, taken) == column
