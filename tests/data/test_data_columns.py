"""What a cell is, whoever wrote it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.core.errors import InputError
from modelopt_cli.data.columns import Notation, kind_of_column, kind_of_texts, number_column, text_column
from modelopt_cli.data.odd_cells import odd_cells


@pytest.mark.parametrize(
    ("notation", "text", "number"),
    [
        (Notation(), "1.5", 1.5),
        (Notation(), " -3e2 ", -300.0),
        (Notation(), "1,965", None),
        (Notation(), "1_000", None),
        (Notation(), "0x10", None),
        (Notation(), "nan", None),
        (Notation(",", None), "1,5", 1.5),
        (Notation(",", None), "1.5", None),
        (Notation(".", ","), "1,965.1", 1965.1),
        (Notation(".", ","), "-12,345,678", -12345678.0),
        (Notation(".", ","), "1965.1", 1965.1),
        (Notation(".", ","), "1,5", None),  # a decimal comma, which would be 15 if marks were left out
        (Notation(".", ","), "1,23,456", 123456.0),  # as in India
        (Notation(".", ","), ",123", None),
        (Notation(",", "."), "1.234,5", 1234.5),
        (Notation(",", "."), "1.5", None),
        (Notation(".", " "), "1 234.5", 1234.5),
        (Notation(".", " "), "1\u202f234", 1234.0),
        (Notation(".", "'"), "1'234", 1234.0),
    ],
)
def test_numbers_as_they_are_written(notation: Notation, text: str, number: float | None) -> None:
    read = notation.number(text)
    assert (None if np.isnan(read) else read) == number


@given(st.floats(-1e12, 1e12))
def test_grouped_numbers_are_read_back(value: float) -> None:
    assert Notation(".", ",").number(f"{value:,.3f}") == pytest.approx(value, abs=1e-3)
    assert Notation(",", ".").number(f"{value:,.3f}".translate(str.maketrans(",.", ".,"))) == pytest.approx(
        value, abs=1e-3
    )


def texts(cells: list[Any], *arguments: Any, **options: Any) -> list[Any]:
    return list(text_column(pd.Series(cells, dtype=object), *arguments, **options))


def test_a_text_stays_as_it_is_written() -> None:
    assert texts(["02139", "3.50", "TRUE", None], "text") == ["02139", "3.50", "TRUE", None]


def test_a_category_of_numbers_is_one_however_it_is_written() -> None:
    assert texts(["1", "01", "1.0", 1, 1.0, "1.5", "?"], "number") == ["1", "1", "1", "1", "1", "1.5", "?"]
    assert texts(["12345678901234567", 12345678901234567], "number") == ["12345678901234567"] * 2
    assert texts(["1,5"], "number", Notation(",")) == ["1.5"]


def test_truth_values_are_the_same_in_any_case() -> None:
    assert texts(["TRUE", "true", True, "False", "yes"], "truth") == ["True", "True", "True", "False", "yes"]


def test_what_a_program_wrote_again_is_still_the_category() -> None:
    assert texts(["1.0", "3.5", "2", "02"], "text", learnt=["1", "3.50", "?"]) == ["1", "3.50", "2", "02"]
    assert texts(["3.5", "3.50"], "text", learnt=["3.50", "3.5"]) == ["3.5", "3.50"]


def test_numbers_of_a_column_that_was_learnt_as_numbers() -> None:
    mixed = pd.Series(["1.5", "2", None], dtype=object)
    assert number_column(mixed, "x", "number")[:2].tolist() == [1.5, 2.0]
    for cells in ([True, False], ["TRUE"], ["1.5", "TRUE"]):  # whatever else is in the column
        with pytest.raises(InputError, match="must be a number"):
            number_column(pd.Series(cells), "x", "number")
    assert number_column(pd.Series(["TRUE", "false", "1"], dtype=object), "x", "truth").tolist() == [1, 0, 1]
    assert number_column(pd.Series([True, None], dtype=object), "x", "truth")[0] == 1


@pytest.mark.parametrize(
    ("cells", "typed", "kind"),
    [
        ([1, 2.5], True, "number"),
        ([True, False], True, "truth"),
        ([True, None], True, "truth"),
        (["1", "2"], True, "text"),
        (["1", "2"], False, "number"),
        (["TRUE", "false"], False, "truth"),
        (["TRUE", "?"], False, "text"),
        (["a", None], False, "text"),
        ([[1], [2]], True, "text"),
    ],
)
def test_kinds(cells: list[Any], typed: bool, kind: str) -> None:
    assert kind_of_column(pd.Series(cells), typed=typed) == kind


@pytest.mark.parametrize(
    ("learnt", "kind"),
    [
        (["1", "2", "10"], "number"),
        (["1.5"], "number"),
        (["?", "3.50"], "text"),
        (["02139", "94110"], "text"),
        (["True", "False"], "truth"),
        (["TRUE", "FALSE"], "text"),
        ([], "text"),
    ],
)
def test_kinds_of_models_that_do_not_say_it(learnt: list[str], kind: str) -> None:
    assert kind_of_texts(learnt) == kind


@pytest.mark.parametrize(
    ("cells", "numbers", "odd", "remedy"),
    [
        (["1", "2.5", "?", "3"], 3, {"?": [2]}, 'data.missing_values: ["?"]'),
        (["1,965.1", "2,216.0", "1,186"], 3, {}, 'data.thousands: ","'),
        (["1,965.1", "12", "n/k", "1,186"], 3, {"n/k": [2]}, 'data.thousands: ","'),
        (["1,5", "2,25", "3,0"], 3, {}, 'data.decimal: ","'),
        (["1.234,5", "2.000,0"], 2, {}, 'data.decimal: "," and data.thousands: "."'),
        (["$1,200", "$15"], 2, {}, "take the sign out"),
        (["5%", "7.5 %", "9%"], 3, {}, "take the sign out"),
    ],
)
def test_odd_cells(cells: list[str], numbers: int, odd: dict[str, list[int]], remedy: str) -> None:
    noticed = odd_cells(pd.Series(cells), Notation())
    assert noticed is not None
    assert (noticed.numbers, noticed.odd) == (numbers, odd)
    assert any(remedy in text for text in noticed.remedies())


@pytest.mark.parametrize(
    "cells",
    [
        ["a", "b", "1"],
        ["S", "38", "M", "40"],  # as many as not
        ["2020-01-01", "2020-01-02"],
        ["10-19", "20-29"],
        ["1.2.3", "1.2.4"],
        ["A12", "B13"],
        ["01", "02"],  # typed as text by whoever wrote the file
        [None, None],
    ],
)
def test_texts_that_are_no_numbers(cells: list[Any]) -> None:
    assert odd_cells(pd.Series(cells, dtype=object), Notation()) is None
