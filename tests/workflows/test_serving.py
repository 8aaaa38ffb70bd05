"""Exports that take raw inputs compute what `modelopt predict` does; the programs in docs/serving.md run."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from PIL import Image

import modelopt_cli
from modelopt_cli.workflows.evaluate import predict
from modelopt_cli.workflows.export import run as export

SPLITS = {"validation": 0.2, "test": 0.3, "seed": 0}
DOCS = Path(__file__).parents[2] / "docs" / "serving.md"


def images(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    targets = np.arange(count) % 3
    pixels = rng.integers(0, 60, (count, 12, 12), dtype=np.uint8)
    for each, target in zip(pixels, targets, strict=True):
        each[4 * target : 4 * target + 4] += 150
    return pixels, targets


def table(count: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "colour": rng.choice(["red", "grün", "<b>blue</b>"], count),
            "size": rng.normal(100, 30, count),
            "code": rng.choice(["007", "x"], count),
            "age": rng.normal(5e5, 1e5, count),
        }
    )
    frame["price"] = frame["size"] * 3000 + (frame["colour"] == "red") * 2e5 + 1e6
    frame["kind"] = np.where(frame["size"] > 100, "big", "small")
    for column in ("colour", "size", "age"):
        frame.loc[rng.random(count) < 0.15, column] = None
    return frame


def trained(data: dict[str, Any], model: dict[str, Any], out: str) -> Path:
    content = {
        "data": {**data, "splits": SPLITS},
        "model": model,
        "training": {"epochs": 2, "batch_size": 16},
        "device": "cpu",
    }
    modelopt_cli.train(modelopt_cli.load(content), out=out)
    return Path(out, "model.pt")


def outputs(model: Path, raw: np.ndarray, *, suffix: str) -> list[np.ndarray]:
    """Of the exported model on raw inputs, as many samples at a time as there are."""
    file = Path(f"served{suffix}")
    export(model, file, force=True)
    if suffix == ".onnx":
        session = onnxruntime.InferenceSession(file)
        return list(session.run(None, {"inputs": raw}))
    given = torch.export.load(file).module()(torch.from_numpy(raw))
    return [each.detach().numpy() for each in (given if isinstance(given, tuple) else (given,))]


def agrees(model: Path, raw: np.ndarray, data: str) -> None:
    """Both formats with `modelopt predict` on the same samples."""
    expected = predict(model, data)
    for suffix in (".onnx", ".pt2"):
        given = outputs(model, raw, suffix=suffix)
        values = np.array([row[-given[-1].shape[1] :] for row in expected.rows], dtype=np.float64)
        assert np.allclose(given[-1], values, rtol=1e-5, atol=1e-6)
        if "label" in expected.columns:
            names = [column.removeprefix("probability_") for column in expected.columns if "probability_" in column]
            labels = [row[expected.columns.index("label")] for row in expected.rows]
            assert [names[best] for best in given[0].argmax(1)] == labels


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["npz", "images", "idx"])
def test_pixels_go_in_as_they_are(source: str) -> None:
    pixels, targets = images()
    data: dict[str, Any] = {"type": source, "path": "data"}
    if source == "npz":
        np.savez("data.npz", x=pixels, y=targets)
        data["path"] = "data.npz"
    elif source == "images":
        for number, (each, target) in enumerate(zip(pixels, targets, strict=True)):
            Path("data", f"class{target}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(each).save(Path("data", f"class{target}", f"{number:03}.png"))
    else:
        Path("data").mkdir()
        for name, array in (("images-idx3", pixels), ("labels-idx1", targets.astype(np.uint8))):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            for part in ("train", "t10k"):
                Path("data", f"{part}-{name}-ubyte").write_bytes(header + array.tobytes())
    model = trained(data, {"type": "cnn"}, "run")
    raw = pixels[:, None]
    if source == "images":
        raw = np.concatenate([pixels[targets == target] for target in range(3)])[:, None]  # in the folders' order
    agrees(model, raw, "data/t10k-images-idx3-ubyte" if source == "idx" else data["path"])


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_tables_columns_go_in_as_numbers(task: str) -> None:
    frame = table()
    frame.to_csv("table.csv", index=False)
    target, drop = ("kind", "price") if task == "classification" else ("price", "kind")
    data = {"type": "csv", "path": "table.csv", "target": target, "drop": [drop], "task": task}
    model = trained(data, {"type": "mlp", "hidden": [8]}, "run")
    report = export(model, Path("about.onnx"))
    inputs = report.details["inputs"]
    frame.loc[0, "colour"] = "unknown"
    frame.drop(columns=[target, drop]).to_csv("new.csv", index=False)
    raw = np.stack(
        [
            pd.Index(inputs["categories"][name]).get_indexer(frame[name]).astype(np.float64)
            if name in inputs["categories"]
            else frame[name].to_numpy(np.float64)
            for name in inputs["columns"]
        ],
        axis=1,
    )
    assert np.isnan(raw).any()
    with pytest.warns(UserWarning, match="count as no category"):
        agrees(model, raw, "new.csv")
    if task == "regression":
        (values,) = outputs(model, raw, suffix=".onnx")
        assert values.mean() > 1e5  # in the unit of the targets


@pytest.mark.slow
def test_bare_is_the_network_alone() -> None:
    pixels, targets = images()
    np.savez("data.npz", x=pixels, y=targets)
    model = trained({"type": "npz", "path": "data.npz"}, {"type": "cnn"}, "run")
    report = export(model, Path("bare.onnx"), bare=True)
    session = onnxruntime.InferenceSession("bare.onnx")
    about = json.loads(session.get_modelmeta().custom_metadata_map["modelopt.json"])
    assert ([each.name for each in session.get_outputs()], session.get_inputs()[0].type) == (
        ["outputs"],
        "tensor(float)",
    )
    assert set(about) == {"task", "inputs", "label_names", "preprocessing"}
    assert report.details["bare"]
    raw = outputs(model, pixels[:, None], suffix=".onnx")[0]
    mean, std = (np.array(about["preprocessing"][key]).reshape(1, -1, 1, 1) for key in ("image_mean", "image_std"))
    prepared = ((pixels[:, None] / 255 - mean) / std).astype(np.float32)
    assert np.allclose(session.run(None, {"inputs": prepared})[0], raw, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1], ids=["images", "table"])
def test_the_programs_of_the_documentation(number: int) -> None:
    code = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S)[number]
    assert len(code.splitlines()) <= 20
    space: dict[str, Any] = {}
    if number == 0:
        pixels, targets = images()
        np.savez("data.npz", x=pixels, y=targets)
        model = trained({"type": "npz", "path": "data.npz"}, {"type": "cnn"}, "run")
        Path("new").mkdir()
        for name, each in zip("ab", pixels, strict=False):
            Image.fromarray(each).save(f"{name}.png")
            Image.fromarray(each).save(f"new/{name}.png")
        export(model, Path("shapes.onnx"))
        expected = [row[1] for row in predict(model, "new").rows]
    else:
        table().drop(columns="price").to_csv("new.csv", index=False)
        data = {"type": "csv", "path": "new.csv", "target": "kind"}
        model = trained(data, {"type": "mlp", "hidden": [8]}, "run")
        export(model, Path("sizes.onnx"))
        expected = [row[0] for row in predict(model, "new.csv").rows]
    exec(compile(code, str(DOCS), "exec"), space)
    assert space["labels"] == expected
