"""Columns that are numbers, dates or nothing of the kind, in types that pandas does not call so."""

from __future__ import annotations

import datetime
import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelopt_cli.core.errors import InputError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.data.raw import RawData
from modelopt_cli.data.sources import DataSource

N = 40


def source(path: Path, **options: Any) -> DataSource:
    kind = "parquet" if path.suffix == ".parquet" else "csv"
    made = FAMILIES["data"].get(kind).model_validate({"path": str(path), "target": "y", **options})
    assert isinstance(made, DataSource)
    return made


def load(path: Path, **options: Any) -> RawData:
    return source(path, **options).read(0)


def parquet(folder: Path, **columns: Any) -> Path:
    pytest.importorskip("pyarrow")
    path = folder / "d.parquet"
    pd.DataFrame({"x": np.arange(N) * 1.5, "y": ["a", "b"] * (N // 2), **columns}).to_parquet(path)
    return path


def json_lines(folder: Path, **columns: Any) -> Path:
    path = folder / "d.jsonl"
    rows = [{name: cells[i] for name, cells in columns.items()} for i in range(N)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_decimals_are_numbers(tmp_path: Path) -> None:
    cells = [Decimal("1.25") * i for i in range(N)]
    cells[3] = None  # type: ignore[call-overload]
    values = np.asarray(load(parquet(tmp_path, z=cells)).inputs)[:, 1]
    assert (values[2], np.isnan(values).sum()) == (2.5, 1)
    loaded = load(parquet(tmp_path, y=[Decimal("1.25") * i for i in range(N)]))
    assert (loaded.task, loaded.targets[2]) == ("regression", 2.5)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_whole_numbers_of_many_digits_are_numbers(kind: str, tmp_path: Path) -> None:
    cells = [10**25 + i * 10**24 for i in range(N)]
    if kind == "csv":
        path = tmp_path / "d.csv"
        path.write_text("x,y\n" + "".join(f"{cell},{'ab'[i % 2]}\n" for i, cell in enumerate(cells)))
    else:
        path = json_lines(tmp_path, x=cells, y=["a", "b"] * (N // 2))
    assert np.asarray(load(path).inputs)[1, 0] == float(cells[1])


def test_names_of_many_digits_are_no_numbers(tmp_path: Path) -> None:
    path = json_lines(tmp_path, x=list(range(N)), y=[10**25 + i % 2 for i in range(N)])
    assert load(path).label_names == (str(10**25), str(10**25 + 1))


def test_numbers_in_quotes_among_others_are_told(tmp_path: Path) -> None:
    path = json_lines(tmp_path, x=[str(i) if i % 3 else i for i in range(N)], y=["a", "b"] * (N // 2))
    (note,) = load(path).notes
    assert "40 of 40 cells are numbers, some of them in quotes such as '1' (line 2); take the quotes off" in note
    path = json_lines(tmp_path, x=[str(i) for i in range(N)], y=["a", "b"] * (N // 2))
    assert load(path).notes == ()


@pytest.mark.parametrize("written", ["2024-01-{:02d}", "{}.1.2024", "2024-01-01T00:{:02d}:00Z", "1/{:02d}/2024"])
def test_dates_in_texts_are_told(written: str, tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("when,x,y\n" + "".join(f"{written.format(1 + i % 28)},{i},{'ab'[i % 2]}\n" for i in range(N)))
    (note,) = load(path).notes
    assert "column 'when' is taken as text" in note
    assert "40 of 40 cells are dates" in note
    for remedy in ({"drop": ["when"]}, {"categories": ["when"]}):
        assert load(path, **remedy).notes == ()


@pytest.mark.parametrize(
    "cell", [datetime.date(2024, 1, 1), datetime.time(1, 2), datetime.datetime(2024, 1, 1), datetime.timedelta(days=1)]
)
def test_dates_of_parquet_are_refused(cell: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="column 'z' holds dates, which no model takes"):
        load(parquet(tmp_path, z=[cell] * N))
    with pytest.raises(InputError, match=r"target 'y' holds dates .* no model predicts"):
        load(parquet(tmp_path, y=[cell] * N))


def test_dates_are_no_target_unless_they_are_classes(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("x,y\n" + "".join(f"{i},2024-01-{1 + i % 2:02d}\n" for i in range(N)))
    with pytest.raises(InputError, match=r"target 'y' holds dates .* write data.task: classification"):
        load(path)
    assert load(path, task="classification").label_names == ("2024-01-01", "2024-01-02")


def test_lists_and_objects_are_refused_wherever_they_stand(tmp_path: Path) -> None:
    cells: list[Any] = ["t"] * (N - 1)
    for several in ([1], {"a": 1}):
        path = json_lines(tmp_path, x=list(range(N)), y=["a", "b"] * (N // 2), z=[*cells, several])
        with pytest.raises(InputError, match="column 'z' holds lists or objects"):
            load(path)
        path = json_lines(tmp_path, x=list(range(N)), y=[*cells, several])
        with pytest.raises(InputError, match="target 'y' holds lists or objects"):
            load(path)


def test_files_are_known_by_their_bytes_not_their_names(tmp_path: Path) -> None:
    text = "x,y\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(N))
    path = tmp_path / "d.csv.gz"
    path.write_text(text)
    assert len(load(path)) == N
    path.write_bytes(gzip.compress(gzip.compress(text.encode())))
    with pytest.raises(InputError, match="is packed twice"):
        load(path)


@pytest.mark.parametrize("mark", ["1", "e", "-"])
def test_a_thousands_mark_is_no_part_of_a_number(mark: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"stands in numbers themselves; write a mark such as ','"):
        source(tmp_path / "d.csv", thousands=mark)


@pytest.mark.parametrize("options", [{"splits": {"groups": "y"}}, {"aside": ["y"]}, {"time": "y"}])
def test_samples_are_not_grouped_by_the_target(options: Any, tmp_path: Path) -> None:
    path = json_lines(tmp_path, x=list(range(N)), y=["a", "b"] * (N // 2))
    with pytest.raises(InputError, match="column 'y' is the target, by which samples are not grouped"):
        load(path, **options)


def test_the_positive_class_may_be_written_as_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("x,y\n" + "".join(f"{i},0{1 + i % 2}\n" for i in range(N)))
    assert load(path, positive="01").label_names == ("2", "1")
    path.write_text("x,y\n" + "".join(f"{i},{'true' if i % 2 else 'false'}\n" for i in range(N)))
    assert load(path, positive="false").label_names == ("True", "False")
    path.write_text("x,y\n" + "".join(f"{i},{'No' if i % 2 else 'Yes'}\n" for i in range(N)))
    with pytest.raises(InputError, match="no class of the target"):
        load(path, positive="no")
