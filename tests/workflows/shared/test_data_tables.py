"""What a report says of its data: samples by split and class, missing cells by column, whatever the source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelopt_cli import load, train
from modelopt_cli.workflows.shared.data_tables import MOST_COLUMNS, data_tables, sample_tables

SPLITS = {"validation": 0.2, "test": 0.2, "seed": 0}
TREE: dict[str, Any] = {"type": "sklearn", "estimator": "sklearn.tree.DecisionTreeClassifier"}


def test_samples_of_splits_and_classes() -> None:
    report = train(load({"data": {"type": "iris", "splits": SPLITS}, "model": TREE}))
    assert report.records("splits") == [
        {"split": "train", "samples": 90},
        {"split": "validation", "samples": 30},
        {"split": "test", "samples": 30},
    ]
    classes = report.records("classes")
    assert [row["class"] for row in classes[:3]] == ["setosa", "versicolor", "virginica"]
    assert [row["samples"] for row in classes] == [30] * 3 + [10] * 6
    first = report.records("missing")[0]
    assert (first["column"], first["missing"], first["of"]) == ("sepal length (cm)", 0, 150)
    about = report.details["data"]
    assert (about["source"], about["samples"], about["task"], about["classes"]) == ("iris", 150, "classification", 3)
    assert len(about["inputs"]) == about["columns"] == 4


def test_missing_cells_are_counted_by_column(tmp_path: Path) -> None:
    rows = [f"{i},{'' if i % 3 == 0 else i / 2},{'' if i % 5 == 0 else 'ab'[i % 2]},{'yn'[i % 2]}" for i in range(30)]
    (tmp_path / "t.csv").write_text("a,b,c,<i>y</i>\n" + "\n".join(rows) + "\n")
    data = {"type": "csv", "path": str(tmp_path / "t.csv"), "target": "<i>y</i>", "splits": SPLITS}
    tables, about = data_tables(load({"data": data, "model": TREE}))
    assert tables["missing"].records() == [
        {"column": "a", "kind": "number", "missing": 0, "of": 30},
        {"column": "b", "kind": "number", "missing": 10, "of": 30},
        {"column": "c", "kind": "text", "missing": 6, "of": 30},
    ]
    assert (about["inputs"], about["columns"], about["classes"]) == (["a", "b", "c"], 3, 2)


def test_images_have_a_shape_and_no_columns(tmp_path: Path) -> None:
    images, labels = np.zeros((20, 1, 4, 4), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "i.npz", inputs=images, targets=labels)
    data = {"type": "npz", "path": str(tmp_path / "i.npz"), "task": "classification", "splits": SPLITS}
    tables, about = data_tables(load({"data": data, "model": TREE}))
    assert (about["inputs"], about["columns"]) == ([1, 4, 4], None)
    assert set(tables) == {"splits", "classes"}


def test_a_regression_has_no_classes() -> None:
    ridge = {"type": "sklearn", "estimator": "sklearn.linear_model.Ridge"}
    tables, about = data_tables(load({"data": {"type": "diabetes", "splits": SPLITS}, "model": ridge}))
    assert "classes" not in tables
    assert (about["classes"], about["targets"]) == (None, 1)


def test_labels_are_counted_each() -> None:
    targets = np.array([[1.0, 0.0], [1.0, 1.0]])
    tables = sample_tables({"train": targets, "test": targets[:0]}, "multilabel", ("red", "blue"))
    assert tables["splits"].rows == [["train", 2]]
    assert tables["classes"].rows == [["train", "red", 2], ["train", "blue", 1]]


def test_classes_that_a_split_lacks_are_told_and_very_many_are_few() -> None:
    parts = {"train": np.array([0, 0, 2]), "test": np.array([1])}
    assert sample_tables(parts, "classification", ("a", "b", "c"))["classes"].rows == [
        *[["train", name, count] for name, count in (("a", 2), ("b", 0), ("c", 1))],
        *[["test", name, count] for name, count in (("a", 0), ("b", 1), ("c", 0))],
    ]
    many = sample_tables({"train": np.repeat(np.arange(500), 2)}, "classification", ())["classes"].rows
    assert len(many) == 101
    assert many[-1] == ["train", "(others)", 800]


@pytest.mark.slow
def test_of_very_many_columns_those_with_missing_cells_are_shown(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(150)]
    lines = [",".join("" if i == 149 and row < 4 else str(row + i) for i in range(150)) for row in range(20)]
    text = ",".join([*names, "y"]) + "\n" + "".join(f"{line},{'ab'[row % 2]}\n" for row, line in enumerate(lines))
    (tmp_path / "t.csv").write_text(text)
    data = {"type": "csv", "path": str(tmp_path / "t.csv"), "target": "y", "splits": SPLITS}
    tables, about = data_tables(load({"data": data, "model": TREE}))
    rows = tables["missing"].records()
    assert len(rows) == MOST_COLUMNS
    assert rows[-1] == {"column": "c149", "kind": "number", "missing": 4, "of": 20}
    assert (len(about["inputs"]), about["columns"]) == (MOST_COLUMNS, 150)
