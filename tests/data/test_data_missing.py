"""Missing values and odd cells: what is told, what is refused, and what the remedies do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelopt_cli.core.errors import InputError, UsageError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.data.raw import RawData


def load(path: Path | str, target: Any = "y", kind: str = "csv", **options: Any) -> RawData:
    source = FAMILIES["data"].get(kind).model_validate({"path": str(path), "target": target, **options})
    return source.load(0)  # type: ignore[attr-defined]


def write(folder: Path, header: str, rows: list[str]) -> Path:
    path = folder / "d.csv"
    path.write_text(header + "\n" + "\n".join(rows) + "\n")
    return path


class TestOddCells:
    def test_a_feature_is_told_with_its_cells_lines_and_remedy(self, tmp_path: Path) -> None:
        rows = [f"{i}.5,{i % 2}" for i in range(40)]
        rows[6], rows[20], rows[21] = "?,0", '"n\na",0', "?,1"
        path = write(tmp_path, "x,y", rows)
        (note,) = load(path).notes
        assert "column 'x' is taken as text" in note
        assert r"37 of 40 cells are numbers; '?' (line 8, line 24), 'n\na' (line 23) not" in note
        assert r'data.missing_values: ["?", "n\na"]' in note
        assert "data.categories: [x]" in note
        assert load(path, categories=["x"]).notes == ()
        read = load(path, missing_values=["?", "n\na"])
        assert (read.notes, np.isnan(np.asarray(read.inputs, float)).sum()) == ((), 3)

    def test_thousands(self, tmp_path: Path) -> None:
        path = write(tmp_path, "x,y", [f'"{i * 1234.5:,.1f}",{i % 2}' for i in range(1, 30)])
        (note,) = load(path).notes
        assert """29 of 29 cells are numbers in another notation such as '1,234.5' (line 2); write data.thousands: ","""
        assert 'data.thousands: ","' in note
        read = load(path, thousands=",")
        assert (read.notes, np.asarray(read.inputs)[1, 0]) == ((), 2469.0)
        with pytest.raises(ValueError, match="'thousands' and 'decimal' are both"):
            load(path, thousands=",", decimal=",")

    @pytest.mark.parametrize("kind", ["thousands", "odd"])
    def test_a_target_is_refused(self, kind: str, tmp_path: Path) -> None:
        cells = [f'"{150_000 + i * 1111:,}"' if kind == "thousands" else f"{i}.25" for i in range(60)]
        if kind == "odd":
            cells[3] = "tbd"
        path = write(tmp_path, "x,y", [f"{i},{cell}" for i, cell in enumerate(cells)])
        message = (
            r"""target 'y' is text, though 60 of 60 .* '150,000' \(line 2\); write data.thousands: ",";"""
            if kind == "thousands"
            else r"""target 'y' is text, though 59 of 60 .*'tbd' \(line 5\) not; .*\["tbd"\].*missing: \{y: drop\}"""
        )
        for task in ("auto", "regression"):
            with pytest.raises(InputError, match=message):
                load(path, task=task)
        remedy = {"thousands": ","} if kind == "thousands" else {"missing_values": ["tbd"], "missing": {"y": "drop"}}
        assert load(path, **remedy).task == "regression"
        assert "is taken as classes, though" in load(path, task="classification").notes[0]

    def test_too_many_categories_say_why(self, tmp_path: Path) -> None:
        path = write(tmp_path, "x,y", [*(f"{i}.5,{i % 2}" for i in range(1100)), "?,0"])
        with pytest.raises(InputError, match=r"more than max_categories.*'\?' \(line 1102\) not"):
            load(path)

    def test_parquet_and_code_too(self, tmp_path: Path) -> None:
        frame = pd.DataFrame({"x": [*map(str, range(20)), "?"], "y": [0, 1, 0] * 7})
        frame.to_parquet(tmp_path / "d.parquet")
        assert "'?' (data row 21) not" in load(tmp_path / "d.parquet", kind="parquet").notes[0]
        assert load(tmp_path / "d.parquet", kind="parquet", categories=["x"]).notes == ()


class TestClassesCalledNone:
    ROWS = [f"{i / 10},{('None', 'Driver', 'Both')[i % 3]}" for i in range(30)]

    @pytest.mark.parametrize("missing", ["impute", "refuse", "drop", {"y": "drop"}])
    def test_is_never_dropped_or_missing_in_silence(self, missing: Any, tmp_path: Path) -> None:
        path = write(tmp_path, "x,y", self.ROWS)
        with pytest.raises(InputError, match=r"all of them read 'None' \(10\).*'missing_values: \[\]'"):
            load(path, missing=missing)
        assert load(path, missing=missing, missing_values=[]).label_names == ("Both", "Driver", "None")
        if missing not in ("impute", "refuse"):
            raw = load(path, missing=missing, missing_values=["None"])
            assert (len(raw), raw.label_names) == (20, ("Both", "Driver"))
            assert "10 of 30 rows were left out, for missing values in 'y' (10: 'None')" in raw.notes[0]

    def test_numbers_without_a_target_may_go(self, tmp_path: Path) -> None:
        path = write(tmp_path, "x,y", ["1,0.5", "2,NA", "3,1.5", "4,", "5,2.5"])
        raw = load(path, missing={"y": "drop"})
        assert raw.targets.tolist() == [0.5, 1.5, 2.5]
        assert "2 of 5 rows were left out, for missing values in 'y' (2: 'NA')" in raw.notes[0]

    def test_a_category_called_none(self, tmp_path: Path) -> None:
        path = write(tmp_path, "c,y", ["None,0", "NA,1", "u,0", "None,1"])
        raw = load(path, missing_values=[])
        assert isinstance(raw.inputs, pd.DataFrame)
        assert raw.inputs["c"].tolist() == ["None", "NA", "u", "None"]

    def test_numbers_as_marks(self, tmp_path: Path) -> None:
        path = write(tmp_path, "x,y", ["-999,0", "2,1", "-999.0,0", "4,1"])
        values = np.asarray(load(path, missing_values=[-999]).inputs)
        assert np.isnan(values[:, 0]).tolist() == [True, False, True, False]


class TestPolicies:
    ROWS = ["1,,a,1", ",2,a,1", "3,3,b,1", "4,4,b,1", "5,5,a,1"]

    def test_by_column(self, tmp_path: Path) -> None:
        path = write(tmp_path, "u,v,y,w", self.ROWS)
        assert len(load(path, weights="w", missing={"u": "drop"})) == 4
        assert len(load(path, weights="w", missing={"*": "drop", "v": "impute"})) == 4
        assert len(load(path, weights="w", missing="drop")) == 3
        note = load(path, missing="drop").notes[0]
        assert note == "data.missing: 2 of 5 rows were left out, for missing values in 'u' (1), 'v' (1)"
        with pytest.raises(InputError, match=r"missing values in 1 columns, most in 'v' \(1\)"):
            load(path, missing={"v": "refuse"})
        with pytest.raises(InputError, match=r"has no column 'uu'\. Did you mean 'u'"):
            load(path, missing={"uu": "drop"})
        with pytest.raises(UsageError, match="'y' is a target or a weight"):
            load(path, missing={"y": "impute"})

    def test_a_class_that_would_vanish_is_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path, "x,y", [*(f"{i},a" for i in range(5)), *(f"{i},b" for i in range(5)), ",c", ",c"])
        with pytest.raises(
            InputError, match=r"every row of class 'c' of 'y' \(2 rows\) .* 'x'; write 'missing: \{y: d"
        ):
            load(path, missing="drop")
        assert len(load(path, missing={"y": "drop"})) == 12

    def test_lines_after_dropping_are_those_of_the_file(self, tmp_path: Path) -> None:
        path = write(tmp_path, "x,w,y", [",1,0", "2,1,1", "inf,1,0", "4,1,1"])
        with pytest.raises(InputError, match=r"'x' is infinite in data row 2 \(line 4\)"):
            load(path, missing="drop")


def test_marks_in_files_that_tell_types(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "c": pd.Categorical(["u", "?", "v", "u"]),
            "t": ["a", "?", "b", "?"],
            "i": [1, -9, 3, 4],
            "f": [1.5, -9.0, -9.5, 2.0],
            "b": [True, False, True, False],
            "y": ["no", "yes", "no", "yes"],
        }
    )
    frame.to_parquet(tmp_path / "d.parquet")
    loaded = load(tmp_path / "d.parquet", kind="parquet", missing_values=["?", -9]).inputs
    assert isinstance(loaded, pd.DataFrame)
    assert loaded.isna().sum().to_dict() == {"c": 1, "t": 2, "i": 1, "f": 1, "b": 0}
    assert not load(tmp_path / "d.parquet", kind="parquet").inputs.isna().any().any()  # type: ignore[union-attr]
