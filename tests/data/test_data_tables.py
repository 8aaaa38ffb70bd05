"""CSV and parquet: what is inferred, and how each mistake reads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelopt_cli.core.errors import InputError, MissingExtraError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.data.prepared import prepare
from modelopt_cli.data.raw import RawData
from modelopt_cli.data.splits import split

PEOPLE = """age,job,score,weight,label
31,cook,1.5,1,yes
22,clerk,,1,no
45,cook,2.5,2,yes
50,,3.5,1,no
28,pilot,0.5,1,yes
39,clerk,1.0,0,no
"""


def write(tmp_path: Path, text: str, name: str = "data.csv", encoding: str = "utf-8") -> str:
    (tmp_path / name).write_text(text, encoding=encoding)
    return str(tmp_path / name)


def load(path: str, target: Any = "label", kind: str = "csv", **options: Any) -> RawData:
    source = FAMILIES["data"].get(kind).model_validate({"path": path, "target": target, **options})
    return source.load(0)  # type: ignore[attr-defined]


class TestWhatIsInferred:
    def test_types(self, tmp_path: Path) -> None:
        raw = load(write(tmp_path, PEOPLE), weights="weight")
        assert isinstance(raw.inputs, pd.DataFrame)
        assert raw.feature_names == ("age", "job", "score")
        assert (raw.task, raw.label_names, raw.targets.tolist()) == (
            "classification",
            ("no", "yes"),
            [1, 0, 1, 0, 1, 0],
        )
        assert raw.inputs["age"].dtype == raw.inputs["score"].dtype == np.float64
        assert raw.weights is not None
        assert raw.weights.tolist() == [1, 1, 2, 1, 1, 0]
        assert raw.target_names == ("label",)

    def test_end_to_end(self, tmp_path: Path) -> None:
        source = FAMILIES["data"].get("csv").model_validate({"path": write(tmp_path, PEOPLE), "target": "label"})
        raw = source.load(0)  # type: ignore[attr-defined]
        prepared = prepare(source, raw, split(raw, None, 0))  # type: ignore[arg-type]
        assert np.isfinite(prepared.train.inputs).all()
        assert prepared.shapes.inputs == prepared.train.inputs.shape[1:]
        assert prepared.preprocessing.reading["separator"] == ","

    def test_only_numbers_are_an_array(self, tmp_path: Path) -> None:
        raw = load(write(tmp_path, "a,b,y\n1,2.5,0\n3,,1\n"), "y")
        assert isinstance(raw.inputs, np.ndarray)
        np.testing.assert_array_equal(raw.inputs, [[1, 2.5], [3, np.nan]])
        assert raw.label_names == ("0", "1")

    @pytest.mark.parametrize(
        ("values", "task"),
        [
            (["a", "b", "a"], "classification"),
            (["True", "False", "True"], "classification"),
            (["3", "1", "3"], "classification"),
            (["1.5", "2.5", "1"], "regression"),
            ([str(number) for number in range(21)], "regression"),
            ([str(number) for number in range(20)], "classification"),
        ],
    )
    def test_the_task(self, tmp_path: Path, values: list[str], task: str) -> None:
        text = "x,y\n" + "".join(f"{row},{value}\n" for row, value in enumerate(values))
        assert load(write(tmp_path, text), "y").task == task

    def test_numeric_classes_are_in_order(self, tmp_path: Path) -> None:
        raw = load(write(tmp_path, "x,y\n1,10\n1,9\n1,2\n"), "y")
        assert raw.label_names == ("2", "9", "10")
        assert raw.targets.tolist() == [2, 1, 0]

    def test_several_targets(self, tmp_path: Path) -> None:
        raw = load(write(tmp_path, "x,a,b\n1,0,1\n2,1,1\n3,True,False\n".replace("True,False", "1,0")), ["a", "b"])
        assert (raw.task, raw.label_names, raw.targets.tolist()) == ("multilabel", ("a", "b"), [[0, 1], [1, 1], [1, 0]])
        raw = load(write(tmp_path, "x,a,b\n1,0.5,1\n2,1,1\n"), ["a", "b"])
        assert (raw.task, raw.targets.shape) == ("regression", (2, 2))

    def test_options(self, tmp_path: Path) -> None:
        text = "größe;code;y\n1,5;1;ja\n2,5;2;nein\n3,5;1;ja\n"
        path = write(tmp_path, text, encoding="latin-1")
        raw = load(path, "y", separator=";", decimal=",", encoding="latin-1", categories=["code"])
        assert isinstance(raw.inputs, pd.DataFrame)
        assert raw.inputs["größe"].tolist() == [1.5, 2.5, 3.5]
        assert raw.inputs["code"].tolist() == ["1", "2", "1"]
        assert load(path, "y", separator=";", encoding="latin-1", drop=["größe"]).feature_names == ("code",)

    def test_a_byte_order_mark_and_blank_lines_are_no_matter(self, tmp_path: Path) -> None:
        raw = load(write(tmp_path, "\ufeffx,y\n\n1,a\n\n2,b\n"), "y")
        assert raw.feature_names == ("x",)
        assert len(raw) == 2

    def test_missing_values(self, tmp_path: Path) -> None:
        path = write(tmp_path, PEOPLE)
        assert len(load(path, missing="impute")) == 6
        assert load(path, missing="drop").targets.tolist() == [1, 1, 1, 0]
        with pytest.raises(InputError, match=r"missing values in 2 columns, most in '\w+' \(1\)"):
            load(path, missing="refuse")

    def test_parquet_is_like_csv(self, tmp_path: Path) -> None:
        frame = pd.read_csv(write(tmp_path, PEOPLE))
        frame.to_parquet(tmp_path / "data.parquet")
        table, csv = load(str(tmp_path / "data.parquet"), kind="parquet"), load(str(tmp_path / "data.csv"))
        pd.testing.assert_frame_equal(table.inputs, csv.inputs)  # type: ignore[arg-type]
        assert np.array_equal(table.targets, csv.targets)

    def test_parquet_of_nullable_and_categorical_columns(self, tmp_path: Path) -> None:
        frame = pd.DataFrame(
            {
                "i": pd.array([1, None, 3], dtype="Int64"),
                "c": pd.Categorical(["u", "v", None]),
                "b": [True, False, True],
                "y": pd.array([True, False, True], dtype="boolean"),
            }
        )
        frame.to_parquet(tmp_path / "data.parquet")
        raw = load(str(tmp_path / "data.parquet"), "y", kind="parquet")
        assert isinstance(raw.inputs, pd.DataFrame)
        assert raw.label_names == ("False", "True")
        assert np.isnan(raw.inputs["i"][1])
        assert raw.inputs["b"].tolist() == [1, 0, 1]


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "options", "message"),
        [
            (PEOPLE, {"target": "lable"}, r"no column 'lable'\. Did you mean 'label'\? Its columns: age, job, score"),
            (PEOPLE, {"drop": ["agee"]}, r"no column 'agee'\. Did you mean 'age'"),
            (PEOPLE, {"weights": "wait"}, r"no column 'wait'"),
            (PEOPLE.replace(",", ";"), {}, r"The header is not split: set 'separator'"),
            (PEOPLE.replace("no\n", "yes\n"), {}, r"only one class, 'yes'; classification needs two or more"),
            (PEOPLE.replace("no\n", "\n"), {}, r"target 'label' has 3 missing values .* data row 2; .*missing: drop"),
            ("", {}, r"is empty$"),
            ("age,label\n", {}, r"is empty: it has a header and no rows"),
            (PEOPLE, {"task": "regression"}, r"'label' has 'yes' in data row 1, which is no number.*classification"),
            (PEOPLE, {"target": "score", "task": "classification", "missing": "drop"}, r"fractions such as 1\.5"),
            (PEOPLE + "1,2,3\n", {}, r"line 8: 3 fields, but the header has 5"),
            (PEOPLE + "1,2,3,4,5,6\n", {}, r"line 8: 6 fields, but the header has 5"),
            (PEOPLE.replace("score", "age"), {}, r"two columns named 'age'"),
            (PEOPLE.replace("3.5", "inf"), {}, r"column 'score' is infinite in data row 4"),
            (PEOPLE.replace("3.5", "1e999"), {}, r"column 'score' is infinite in data row 4"),
            (PEOPLE.replace("45", "inf"), {"target": "age", "task": "regression"}, r"'age' is inf in data row 3"),
            (PEOPLE, {"weights": "score"}, r"weights column 'score' is nan in data row 2; weights are 0 or more"),
            (PEOPLE, {"weights": "job"}, r"column 'job' has 'cook' in data row 1; it must be a number"),
            (PEOPLE, {"max_categories": 2}, r"column 'job' holds 3 different texts, more than max_categories = 2"),
            (PEOPLE, {"drop": ["age", "job", "score", "weight"]}, r"no column besides target"),
            (PEOPLE.replace("age,", ","), {}, r"column without a name.*drop: \['Unnamed: 0'\]"),
            (
                PEOPLE,
                {"target": ["label", "age"], "task": "classification"},
                r"'label' holds values other than 0",
            ),
            (PEOPLE, {"encoding": "utf-17"}, r"set 'encoding'"),
            ("x,y\n,1\n,2\n", {"target": "y", "missing": "drop"}, r"no rows without missing values"),
        ],
    )
    def test_message(self, tmp_path: Path, text: str, options: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            load(write(tmp_path, text), **options)

    def test_files(self, tmp_path: Path) -> None:
        path = write(tmp_path, PEOPLE)
        with pytest.raises(InputError, match=r"there is no file '.*dta\.csv'\. Did you mean 'data\.csv'"):
            load(str(tmp_path / "dta.csv"))
        with pytest.raises(InputError, match=r"does not exist either"):
            load(str(tmp_path / "nowhere" / "data.csv"))
        with pytest.raises(InputError, match=r"is a folder, but must be a file"):
            load(str(tmp_path))
        (tmp_path / "data.gz").write_bytes(b"\x1f\x8b\x08\x00\xff\xfe")
        with pytest.raises(InputError, match=r"damaged or cut off"):
            load(str(tmp_path / "data.gz"))
        write(tmp_path, PEOPLE, encoding="utf-16")
        with pytest.raises(InputError, match=r"is UTF-16 text, not utf-8; write 'encoding: utf-16'"):
            load(path)
        (tmp_path / "data.csv").write_bytes(b"a,label\n1,\x00\n")
        with pytest.raises(InputError):
            load(path)

    def test_parquet(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path, "PAR1 is not all that it takes", "data.parquet")
        with pytest.raises(InputError, match="cannot be read as parquet"):
            load(path, kind="parquet")
        frame = pd.DataFrame({"when": pd.to_datetime(["2020-01-01", "2021-01-01"]), "label": ["a", "b"]})
        frame.to_parquet(path)
        with pytest.raises(InputError, match="'when' holds dates"):
            load(path, kind="parquet")
        pd.DataFrame({"many": [[1, 2], [3]], "label": ["a", "b"]}).to_parquet(path)
        with pytest.raises(InputError, match="'many' holds lists"):
            load(path, kind="parquet")
        frame[:0].to_parquet(path)
        with pytest.raises(InputError, match="no rows"):
            load(path, kind="parquet")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(MissingExtraError, match=r"modelopt-cli\[parquet\]"):
            load(path, kind="parquet")
