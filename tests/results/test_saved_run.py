"""A run is read again with the tables beside its report; what is damaged is told, and only when it is asked for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.core.errors import InputError
from modelopt_cli.results.report import Report, Table
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.results.saved_run import has_report, read_run

CURVES = Table(columns=["trial", "step", "a,\n<b>"], rows=[[0, 1, 0.1], [0, 2, None], [1, 1, "=1"], [2, 1, True]])


def saved(path: Path, **beside: Table) -> Path:
    with RunDirectory.create_at(path) as directory:
        tables = {"trials": Table(columns=["trial"], rows=[[0]])}
        directory.write_report(Report(kind="search", workflow="tune", name="a", tables=tables))
        for name, table in {**tables, **beside}.items():
            directory.write_table(name, table)
    return path


def test_a_table_beside_the_report_is_found_like_one_in_it(tmp_path: Path) -> None:
    report = read_run(saved(tmp_path / "run", curves=CURVES))
    assert report.table("curves") == CURVES
    assert report.records("curves") == CURVES.records()
    assert report.records("trials") == [{"trial": 0}]
    assert list(report.beside) == ["curves"]
    assert (report.table("nothing"), report.records("nothing"), report.records("../run/curves")) == (None, [], [])


def test_what_lies_beside_is_no_part_of_the_document(tmp_path: Path) -> None:
    report = read_run(saved(tmp_path / "run", curves=CURVES))
    assert report.table("curves") is not None
    assert "curves" not in report.to_json()
    assert set(json.loads(report.to_json())["tables"]) == {"trials"}


def test_tables_beside_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    report = read_run(saved(tmp_path / "run", curves=CURVES))
    (tmp_path / "run" / "curves.json").write_text("[{")
    with pytest.raises(InputError, match=r"curves\.json cannot be read as a table"):
        report.records("curves")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"a": 1}', "no list of rows"),
        ("[1]", "no list of rows"),
        ('[{"a": 1}, {"b": 1}]', "different columns"),
        ('[{"a": [1]}]', "no plain value"),
        ('[{"a": NaN}]', "no plain value"),
        (b"\xff", "codec"),
    ],
)
def test_a_damaged_table_is_told(tmp_path: Path, content: str | bytes, what: str) -> None:
    path = saved(tmp_path / "run", curves=CURVES)
    (path / "curves.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=f"curves.json cannot be read as a table .*{what}"):
        read_run(path).table("curves")


def test_what_json_cannot_hold_is_empty(tmp_path: Path) -> None:
    table = Table(columns=["x"], rows=[[math.nan], [math.inf], [1.5]])
    assert read_run(saved(tmp_path / "run", curves=table)).records("curves") == [{"x": None}, {"x": None}, {"x": 1.5}]


def test_a_table_without_rows_is_empty(tmp_path: Path) -> None:
    assert read_run(saved(tmp_path / "run", curves=Table(columns=["x"], rows=[]))).records("curves") == []


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b'{"kind": "search"}', b'{"kind": "no such"}'])
def test_a_damaged_report_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as a report"):
        read_run(tmp_path)


def test_a_run_without_a_report_has_none_yet(tmp_path: Path) -> None:
    assert not has_report(tmp_path)
    with pytest.raises(InputError, match=r"has no report\.json; wait for the run to end, or start it again"):
        read_run(tmp_path)


def test_other_files_of_the_folder_are_no_tables(tmp_path: Path) -> None:
    path = saved(tmp_path / "run")
    own: dict[str, Any] = {"a": 1}
    (path / "environment.json").write_text(json.dumps(own))
    assert list(read_run(path).beside) == []
