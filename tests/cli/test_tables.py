"""Tables on the command line: what was odd in them is told wherever a report is made; what was learnt is kept."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.cli import Cli

TREE = "model: {type: sklearn, estimator: sklearn.tree.DecisionTreeClassifier, random_state: 0}\n"
MLP = "model: {type: mlp, hidden: [4]}\ntraining: {epochs: 2}\n"
ODD = "x,y\n" + "".join(f"{i}.5,{'ab'[i % 2]}\n" for i in range(60)) + "?,a\n"


def experiment(folder: Path, text: str, table: str, name: str = "d.csv") -> Path:
    (folder / name).write_text(table)
    path = folder / "e.yaml"
    path.write_text(f"version: 1\nname: e\n{text}")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "sections"),
    [
        ("train", TREE),
        ("train", TREE + "seeds: 2\n"),
        ("train", TREE + "evaluation: {cv: 3}\n"),
        ("tune", TREE + "tuning: {objective: maximize validation.accuracy, trials: 2, executor: serial, "
                 "space: {model.max_depth: [2, 3]}}\n"),
        ("prune", MLP + "pruning: {amount: 0.5}\n"),
        ("distill", MLP + "distillation: {teacher: {model: {type: mlp, hidden: [8]}, training: {epochs: 1}}}\n"),
    ],
)  # fmt: skip
def test_odd_cells_are_told_by_every_workflow(command: str, sections: str, cli: Cli, tmp_path: Path) -> None:
    path = experiment(tmp_path, "data: {type: csv, path: d.csv, target: y}\n" + sections, ODD)
    remark = "column 'x' is taken as text"
    planned = cli(command, path, "--dry-run")
    assert planned.code == 0, planned.err
    assert planned.out.count(remark) == 1
    done = cli(command, path, "--out", tmp_path / "o")
    assert done.code == 0, done.err
    assert (done.out + done.err).count(remark) == 1
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert sum(remark in warning for warning in report["warnings"]) == 1
    assert "'?' (line 62)" in " ".join(report["warnings"])


def test_a_target_of_odd_numbers_is_refused(cli: Cli, tmp_path: Path) -> None:
    table = "x,y\n" + "".join(f'{i},"{i * 1000 + 100_000:,}"\n' for i in range(40))
    path = experiment(tmp_path, "data: {type: csv, path: d.csv, target: y}\n" + TREE, table)
    for arguments in ((), ("--dry-run",)):
        result = cli("train", path, *arguments)
        assert result.code == 2
        assert 'write data.thousands: ","' in result.err
    model = "model.estimator=sklearn.linear_model.Ridge"
    assert cli("train", path, "--set", "data.thousands=','", "--set", model).code == 0


def predictions(text: str) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fractions", "zip codes", "truth"])
def test_a_prediction_does_not_depend_on_other_rows(kind: str, cli: Cli, tmp_path: Path) -> None:
    odd, high, low = {
        "fractions": ("?", "3.50", "2.70"), "zip codes": ("K1A", "02139", "94110"), "truth": ("?", "TRUE", "FALSE"),
    }[kind]  # fmt: skip
    rows = f"{odd},low\n{high},high\n{high},high\n{low},low\n" * 12
    path = experiment(tmp_path, "data: {type: csv, path: d.csv, target: y}\n" + TREE, "c,y\n" + rows)
    assert cli("train", path, "--out", tmp_path / "o").code == 0
    model = tmp_path / "o" / "model.pt"
    (tmp_path / "one.csv").write_text(f"c\n{high}\n{low}\n")
    (tmp_path / "two.csv").write_text(f"c\n{high}\n{low}\n{odd}\n")
    (tmp_path / "three.csv.gz").write_bytes(gzip.compress(f"c\n{high}\n{low}\n".encode()))
    alone, beside, packed = (predictions(cli("predict", model, tmp_path / f"{name}").out) for name in (
        "one.csv", "two.csv", "three.csv.gz"))  # fmt: skip
    assert alone == beside[:2] == packed
    assert [row["label"] for row in alone] == ["high", "low"]
    (tmp_path / "labelled.csv").write_text(f"c,y\n{high},high\n{low},low\n")
    report = json.loads(cli("evaluate", model, "--data", tmp_path / "labelled.csv", "--json").out)
    assert report["metrics"]["data.accuracy"] == 1
    (tmp_path / "new.csv").write_text("c\nnever\n")
    assert "1 of 1 cells are texts that the model was not trained on" in cli("predict", model, tmp_path / "new.csv").err


def test_evaluate_weighs_as_training_did(cli: Cli, tmp_path: Path) -> None:
    table = "a,y,w\n" + "".join(f"{i * 37 % 11},{i % 2},{9 if i % 2 else 1}\n" for i in range(80))
    section = "data: {type: csv, path: d.csv, target: y, weights: w, splits: {validation: 0, test: 0}}\n"
    path = experiment(tmp_path, section + TREE.replace("random_state: 0", "max_depth: 1"), table)
    assert cli("train", path, "--out", tmp_path / "o").code == 0
    model = tmp_path / "o" / "model.pt"
    own = json.loads(cli("evaluate", model, "--split", "train", "--json").out)
    same = json.loads(cli("evaluate", model, "--data", tmp_path / "d.csv", "--json").out)
    assert {name.partition(".")[2]: value for name, value in own["metrics"].items()} == {
        name.partition(".")[2]: value for name, value in same["metrics"].items()
    }
    assert same["warnings"] == []
    (tmp_path / "without.csv").write_text("\n".join(line.rpartition(",")[0] for line in table.splitlines()))
    without = json.loads(cli("evaluate", model, "--data", tmp_path / "without.csv", "--json").out)
    assert without["metrics"]["data.accuracy"] != same["metrics"]["data.accuracy"]
    assert "('w')" in without["warnings"][0]


def test_a_class_called_none(cli: Cli, tmp_path: Path) -> None:
    table = "x,bag\n" + "".join(f"{i % 3 * 5 + i % 2},{('None', 'Driver', 'Both')[i % 3]}\n" for i in range(60))
    path = experiment(tmp_path, "data: {type: csv, path: d.csv, target: bag, missing: drop}\n" + TREE, table)
    refused = cli("train", path)
    assert refused.code == 2
    assert "read 'None' (20)" in refused.err
    assert "missing_values: []" in refused.err
    assert cli("train", path, "--set", "data.missing_values=[]", "--out", tmp_path / "o").code == 0
    (tmp_path / "new.csv").write_text("x\n0\n5\n")
    labels = predictions(cli("predict", tmp_path / "o" / "model.pt", tmp_path / "new.csv").out)
    assert [row["label"] for row in labels] == ["None", "Driver"]


def test_other_encodings(cli: Cli, tmp_path: Path) -> None:
    path = experiment(tmp_path, "data: {type: csv, path: d.csv, target: y}\n" + TREE, "")
    (tmp_path / "d.csv").write_text(ODD.replace("?", "7"), encoding="utf-16")
    for arguments in ((), ("--set", "data.encoding=latin-1")):
        result = cli("train", path, *arguments)
        assert (result.code, "write 'encoding: utf-16'" in result.err) == (2, True)
    assert cli("train", path, "--set", "data.encoding=utf-16").code == 0
