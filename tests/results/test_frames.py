"""Data frames have the types of what is in the table."""

from __future__ import annotations

import pandas as pd
import pytest

from modelopt_cli.core.errors import UsageError
from modelopt_cli.results.report import Cell, Report, Table

CASES: list[tuple[list[Cell], str]] = [
    ([1, 2], "int64"),
    ([1, None], "Int64"),
    ([1.5, 2], "float64"),
    ([1.5, None], "float64"),
    ([True, False], "bool"),
    ([True, None], "boolean"),
    ([None, None], "object"),
    ([1, "auto"], "object"),
    ([True, 1], "object"),
    ([2**70, 1], "object"),
]


@pytest.mark.parametrize(("cells", "dtype"), CASES)
def test_each_column_has_its_type_and_its_values(cells: list[Cell], dtype: str) -> None:
    frame = Table(columns=["x", "x.y"], rows=[[value, 0] for value in cells]).to_pandas()
    assert str(frame["x"].dtype) == dtype
    assert [None if pd.isna(value) else value for value in frame["x"]] == cells


def test_text_is_text() -> None:
    frame = Table(columns=["x"], rows=[["a"], [None]]).to_pandas()
    assert pd.api.types.is_string_dtype(frame["x"].dropna())
    assert frame["x"].isna().tolist() == [False, True]


def test_a_table_without_rows_keeps_its_columns() -> None:
    assert Table(columns=["a", "b"], rows=[]).to_pandas().columns.tolist() == ["a", "b"]
    assert Table(columns=[], rows=[]).to_pandas().empty


def test_tables_of_a_report_are_found_by_name() -> None:
    table = Table(columns=["epoch", "loss"], rows=[[1, 0.5], [2, 0.25]])
    report = Report(kind="training", workflow="train", name="a", tables={"curve": table})
    report = report.with_beside({"curves": Table(columns=["trial"], rows=[[7]])})
    assert report.to_pandas("curve")["loss"].tolist() == [0.5, 0.25]
    assert report.to_pandas("curves")["trial"].tolist() == [7]
    with pytest.raises(UsageError, match=r"no table 'curv'\. Did you mean 'curve'\? It has: curve, curves"):
        report.to_pandas("curv")
