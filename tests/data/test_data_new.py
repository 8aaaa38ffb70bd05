"""New data for a model: each cell is read by what its column was learnt as, whatever else is in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelopt_cli.core.errors import InputError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.data.new_data import load_inputs, load_labelled
from modelopt_cli.data.prepared import Prepared, prepare
from modelopt_cli.data.splits import Splits, split

ALL = Splits(validation=0, test=0)


def learnt(path: Path, kind: str = "csv", **options: Any) -> Prepared:
    source = FAMILIES["data"].get(kind).model_validate({"path": str(path), "target": "y", **options})
    raw = source.load(0)  # type: ignore[attr-defined]
    return prepare(source, raw, split(raw, ALL, 0))  # type: ignore[arg-type]


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


CASES = {  # (training cells, new cells that must read the same with and without the odd one, the odd one)
    "fractions": (["?", "3.50", "2.70"], ["3.50", "2.70", "4.00"], "?"),
    "zip codes": (["94110", "02139", "K1A0B1"], ["02139", "94110", "2139"], "K1A0B1"),
    "truth": (["TRUE", "FALSE", "?"], ["TRUE", "FALSE", "True"], "?"),
    "missing truth": (["TRUE", "FALSE", ""], ["TRUE", "false"], ""),
    "exponents": (["1e5", "2E3", "n/a?"], ["1e5", "100000", "2E3"], "n/a?"),
    "whole numbers": (["1", "2", "none"], ["1", "2", "1.0"], "none"),
}


@pytest.mark.parametrize("old", [False, True], ids=["kept kinds", "without kinds"])
@pytest.mark.parametrize("name", CASES)
def test_a_row_does_not_depend_on_the_others(name: str, old: bool, tmp_path: Path) -> None:
    cells, new, odd = CASES[name]
    rows = "".join(f"{cell},{i % 2},x\n" for i, cell in enumerate(cells * 6))
    preprocessing = learnt(write(tmp_path, "train.csv", "c,y,z\n" + rows)).preprocessing
    if old:  # a model.pt from before kinds were kept
        plain = preprocessing.to_plain()
        del plain["kinds"], plain["weighted"]
        preprocessing = type(preprocessing).from_plain(plain)
    alone = [load_inputs(write(tmp_path, "one.csv", f"c,z\n{cell},x\n"), preprocessing) for cell in new]
    together = load_inputs(write(tmp_path, "all.csv", "c,z\n" + "".join(f"{cell},x\n" for cell in new)), preprocessing)
    with_odd = load_inputs(
        write(tmp_path, "odd.csv", "c,z\n" + "".join(f"{cell},x\n" for cell in [*new, odd])), preprocessing
    )
    assert np.array_equal(np.concatenate(alone), together)
    assert np.array_equal(with_odd[: len(new)], together)
    known = preprocessing.categories["c"]
    column = len(known) - known[::-1].index(new[0]) - 1 if new[0] in known else None
    if column is not None:
        assert together[0, column] == 1


def test_other_kinds_of_files_too(tmp_path: Path) -> None:
    text = "zip,code,n,y\n" + "02139,1,1.5,a\nK1A,2,2.5,b\n94110,1,,a\n" * 5
    preprocessing = learnt(write(tmp_path, "train.csv", text), categories=["code"]).preprocessing
    frame = pd.DataFrame({"zip": ["02139", "94110"], "code": [1.0, 2.0], "n": [1.5, None]})
    frame.to_parquet(tmp_path / "new.parquet")
    frame.to_json(tmp_path / "new.jsonl", orient="records", lines=True)
    frame.to_csv(tmp_path / "new.csv", index=False)
    frame.to_csv(tmp_path / "new.tsv.gz", index=False, sep="\t")
    loaded = [load_inputs(tmp_path / name, preprocessing) for name in ("new.parquet", "new.jsonl", "new.csv")]
    loaded.append(load_inputs(tmp_path / "new.tsv.gz", preprocessing))
    for inputs in loaded[1:]:
        assert np.array_equal(inputs, loaded[0])
    assert loaded[0].sum(axis=1).tolist() == pytest.approx(
        [2 + loaded[0][0, 0], 2 + loaded[0][1, 0]]
    )  # two known categories


def test_a_column_of_numbers_stays_one(tmp_path: Path) -> None:
    text = "n,b,y\n" + "1.5,TRUE,a\n2.5,FALSE,b\n" * 5
    preprocessing = learnt(write(tmp_path, "train.csv", text)).preprocessing
    for rows in ("TRUE,TRUE\n", "1.5,TRUE\nTRUE,FALSE\n"):
        with pytest.raises(InputError, match=r"column 'n' has 'T?r?u?e?T?R?U?E?' in data row \d .*must be a number"):
            load_inputs(write(tmp_path, "new.csv", "n,b\n" + rows), preprocessing)
    alone = load_inputs(write(tmp_path, "new.csv", "n,b\n1.5,TRUE\n"), preprocessing)
    mixed = load_inputs(write(tmp_path, "new.csv", "n,b\n1.5,TRUE\n2.5,1\n,\n"), preprocessing)
    assert np.array_equal(alone[0], mixed[0])
    with pytest.raises(InputError, match=r"column 'n' has '\?' in data row 2 \(line 3\)"):
        load_inputs(write(tmp_path, "new.csv", "n,b\n1.5,TRUE\n?,1\n"), preprocessing)


@pytest.mark.parametrize(
    ("labels", "new", "codes"),
    [
        (["01", "1", "x"], ["01", "1", "01"], [0, 1, 0]),
        (["1", "2", "3"], ["2.0", "03"], [1, 2]),
        (["yes", "None"], ["None", "yes"], [0, 1]),
        (["TRUE", "FALSE"], ["false", "TRUE"], [0, 1]),
    ],
)
def test_labels_are_read_as_they_were_learnt(
    labels: list[str], new: list[str], codes: list[int], tmp_path: Path
) -> None:
    text = "x,y\n" + "".join(f"{i},{labels[i % len(labels)]}\n" for i in range(18))
    options: dict[str, Any] = {"missing_values": []} if "None" in labels else {}
    if labels[0] == "01":
        options["task"] = "classification"
    data = learnt(write(tmp_path, "train.csv", text), **options)
    path = write(tmp_path, "new.csv", "x,y\n" + "".join(f"1,{label}\n" for label in new))
    labelled = load_labelled(path, data.preprocessing, data.label_names, "classification")
    assert labelled.targets.tolist() == codes


def test_a_learnt_none_is_no_missing_value_though_the_file_was_parquet(tmp_path: Path) -> None:
    pd.DataFrame({"c": ["None", "u"] * 6, "y": ["NA", "b"] * 6}).to_parquet(tmp_path / "d.parquet")
    data = learnt(tmp_path / "d.parquet", "parquet")
    path = write(tmp_path, "new.csv", "c,y\nNone,NA\nu,b\n")
    labelled = load_labelled(path, data.preprocessing, data.label_names, "classification")
    assert labelled.targets.tolist() == [0, 1]
    assert labelled.inputs.tolist() == [[1, 0], [0, 1]]


def test_what_is_new_is_told(tmp_path: Path) -> None:
    data = learnt(write(tmp_path, "train.csv", "c,y\n" + "u,a\nv,b\n" * 5))
    notes: list[str] = []
    load_inputs(write(tmp_path, "new.csv", "c,extra\nu,1\nw,2\n"), data.preprocessing, notes.append)
    assert "ignored 1 columns that the model does not use: extra" in notes[0]
    assert "column 'c': 1 of 2 cells are texts that the model was not trained on, such as 'w' (line 3)" in notes[1]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_encodings_of_new_files(encoding: str, tmp_path: Path) -> None:
    text = "größe,y\n" + "1,a\n2,b\n" * 5
    (tmp_path / "train.csv").write_text(text, encoding="latin-1")
    preprocessing = learnt(tmp_path / "train.csv", encoding="latin-1").preprocessing
    (tmp_path / "new.csv").write_text(text, encoding=encoding if encoding != "utf-8-sig" else "utf-16-le")
    assert load_inputs(tmp_path / "new.csv", preprocessing).shape == (10, 1)


def weighted(folder: Path, kind: str) -> tuple[Path, dict[str, Any]]:
    frame = pd.DataFrame({"a": range(12), "y": [0, 1, 1] * 4, "w": [3.0, 1, 2] * 4})
    if kind == "npz":
        np.savez(folder / "d.npz", X=frame[["a"]].to_numpy(), y=frame["y"].to_numpy(), w=frame["w"].to_numpy())
        return folder / "d.npz", {}
    getattr(frame, f"to_{kind}")(folder / f"d.{kind}", index=False)
    return folder / f"d.{kind}", {"target": "y"}


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_weights_of_new_data(kind: str, tmp_path: Path) -> None:
    path, options = weighted(tmp_path, kind)
    source = FAMILIES["data"].get(kind).model_validate({"path": str(path), "weights": "w", **options})
    raw = source.load(0)  # type: ignore[attr-defined]
    data = prepare(source, raw, split(raw, ALL, 0))  # type: ignore[arg-type]
    notes: list[str] = []
    labelled = load_labelled(path, data.preprocessing, data.label_names, data.task, "w", notes.append)
    assert labelled.weights is not None
    assert labelled.weights.tolist() == [3.0, 1, 2] * 4
    assert notes == []
    without = write(tmp_path, "without.csv", "a,y\n1,0\n")
    target = "y" if kind != "npz" else data.preprocessing.target_names[0]
    assert target == "y"
    assert load_labelled(without, data.preprocessing, data.label_names, data.task, "w", notes.append).weights is None
    assert "trained with sample weights ('w')" in notes[0]


def test_decimal_marks_and_thousands_are_remembered(tmp_path: Path) -> None:
    text = "n;y\n" + "1.234,5;a\n2.000,0;b\n" * 5
    options: dict[str, Any] = {"separator": ";", "decimal": ",", "thousands": "."}
    preprocessing = learnt(write(tmp_path, "train.csv", text), **options).preprocessing
    inputs = load_inputs(write(tmp_path, "new.csv", "n\n1.234,5\n2000\n"), preprocessing)
    assert inputs[:, 0].tolist() == pytest.approx([-1, 1])
    inputs = load_inputs(write(tmp_path, "new.csv", "n\n1234,5\n"), preprocessing)
    assert inputs[0, 0] == pytest.approx(-1)
