"""`modelopt predict` in a pipeline: standard input, an empty batch, a folder of images."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.support.cli import Cli

ROWS = "a,b,label\n" + "".join(f"{i},{i % 7},{'yes' if i % 2 else 'no'}\n" for i in range(40))


@pytest.fixture
def table_model(cli: Cli) -> Path:
    Path("t.csv").write_text(ROWS)
    Path("t.yaml").write_text(
        "version: 1\nname: t\ndata: {type: csv, path: t.csv, target: label}\n"
        "model: {type: sklearn, estimator: sklearn.tree.DecisionTreeClassifier}\n"
    )
    assert cli("train", "t.yaml", "-q").code == 0
    return Path("runs/t/1/model.pt")


def test_standard_input(cli: Cli, table_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("new.csv").write_text("a,b\n1,1\n2,2\n")
    expected = cli("predict", table_model, "new.csv")
    for name in ("-", "/dev/stdin"):
        stream = SimpleNamespace(buffer=io.BytesIO(Path("new.csv").read_bytes()))
        monkeypatch.setattr(sys, "stdin", stream)
        result = cli("predict", table_model, name)
        assert (result.code, result.out) == (0, expected.out)


def test_an_empty_batch_gives_an_empty_table(cli: Cli, table_model: Path) -> None:
    Path("none.csv").write_text("a,b\n")
    result = cli("predict", table_model, "none.csv")
    assert (result.code, result.out) == (0, "label,probability_no,probability_yes\n")
    Path("blank.csv").write_text("")
    assert cli("predict", table_model, "blank.csv").code == 2
    assert cli("evaluate", table_model, "--data", "none.csv").code == 2


def test_a_folder_of_images_is_predicted_with_names(cli: Cli) -> None:
    rng = np.random.default_rng(0)
    for side in ("dark", "light"):
        Path("icons", side).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 90, (8, 8), np.uint8) + (160 if side == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(f"icons/{side}/{number}.png")
    Path("i.yaml").write_text(
        "version: 1\nname: i\ndata: {type: images, path: icons}\nmodel: {type: mlp, hidden: [4]}\n"
        "training: {epochs: 1, batch_size: 4}\n"
    )
    assert cli("train", "i.yaml", "-q").code == 0
    lines = cli("predict", "runs/i/1/model.pt", "icons").out.splitlines()
    assert lines[0].startswith("file,label,probability_dark")
    assert [line.split(",")[0] for line in lines[1:4]] == ["dark/0.png", "dark/1.png", "dark/2.png"]
    assert cli("predict", "runs/i/1/model.pt", "icons/dark/0.png").out.startswith("label,")


def test_exporting_an_estimator_is_one_clear_error(cli: Cli, table_model: Path) -> None:
    for out in ("x.onnx", "x.pt2"):
        result = cli("export", table_model, out)
        assert result.code == 2
        assert "is a scikit-learn estimator, which has no tensors" in result.err
