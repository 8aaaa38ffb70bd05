"""What arrays mean where more than one reading is possible: one-hot targets, test arrays by name, tensors, alpha."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from modelopt_cli import evaluate, load, train
from modelopt_cli.core.errors import InputError
from modelopt_cli.core.strategy import Named
from modelopt_cli.data.targets import encode, interpret


def source(type_: str, **options: Any) -> Any:
    return Named("data").parse({"type": type_, **options})


class TestOneHot:
    @given(st.lists(st.integers(0, 3), min_size=4, max_size=30).filter(lambda codes: len(set(codes)) > 1))
    def test_classes_as_numbers_and_one_hot_are_the_same(self, codes: list[int]) -> None:
        hot = interpret(np.eye(4)[codes], "auto")
        assert hot.task == "classification"
        assert hot.label_names == ("0", "1", "2", "3")
        assert hot.values.tolist() == codes
        assert "exactly one 1" in hot.notes[0]
        assert "multilabel" in hot.notes[0]

    def test_columns_name_the_classes(self) -> None:
        frame = pd.DataFrame({"cat": [1, 0, 0], "dog": [0, 1, 0], "eel": [0, 0, 1]})
        targets = interpret(frame, "classification", ("cat", "dog", "eel"))
        assert targets.label_names == ("cat", "dog", "eel")
        assert encode(frame, "classification", targets.label_names, ("cat", "dog", "eel")).tolist() == [0, 1, 2]

    def test_several_labels_stay_labels(self) -> None:
        assert interpret(np.array([[1, 1], [0, 1]]), "auto").task == "multilabel"
        assert interpret(np.array([[0, 0], [0, 1]]), "classification").task == "multilabel"
        asked = interpret(np.eye(3), "multilabel")
        assert (asked.task, asked.notes) == ("multilabel", ())
        assert interpret(np.eye(3), "regression").task == "regression"

    def test_new_data_must_be_one_hot_too(self) -> None:
        with pytest.raises(InputError, match="exactly one 1 in each row"):
            encode(np.array([[1, 1]]), "classification", ("0", "1"), ("a", "b"))
        with pytest.raises(InputError, match="3 columns, but the model knows 2"):
            encode(np.eye(3), "classification", ("0", "1"), ("a", "b", "c"))

    @pytest.mark.parametrize("kind", ["csv", "npz"])
    @pytest.mark.parametrize("positive", [None, 0, 1])
    def test_a_file_is_evaluated_as_it_was_trained_on(self, kind: str, positive: int | None, tmp_path: Path) -> None:
        x = np.linspace(-1, 1, 60)
        hot = np.stack([x > 0.1, x <= 0.1], 1) * 1
        path = tmp_path / f"d.{kind}"
        if kind == "csv":
            rows = [f"{x[i]},{hot[i, 0]},{hot[i, 1]}" for i in range(60)]
            path.write_text("x,p,q\n" + "\n".join(rows) + "\n")
        else:
            np.savez(path, x=x[:, None], y=hot)
        data: dict[str, Any] = {"type": kind, "path": str(path), **({"target": ["p", "q"]} if kind == "csv" else {})}
        if positive is not None:
            data["positive"] = "pq"[positive] if kind == "csv" else positive
        tree = {"type": "sklearn", "estimator": "sklearn.tree.DecisionTreeClassifier"}
        train(load({"data": data, "model": tree}), out=tmp_path / "o")
        assert evaluate(tmp_path / "o" / "model.pt", data=path).metrics["data.accuracy"] > 0.9

    def test_it_is_told_and_trains_as_classes_do(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        rng = np.random.default_rng(3)
        inputs = rng.normal(size=(90, 4)).astype("f4")
        codes = inputs[:, :3].argmax(1)
        np.savez("hot.npz", x=inputs, y=np.eye(3)[codes])
        np.savez("codes.npz", x=inputs, y=codes)
        runs = [
            train(
                load(
                    {
                        "data": {"type": "npz", "path": f"{name}.npz"},
                        "model": {"type": "mlp", "hidden": [8]},
                        "training": {"epochs": 2},
                    }
                )
            )
            for name in ("hot", "codes")
        ]
        assert runs[0].metrics["test.loss"] == runs[1].metrics["test.loss"]
        assert any("exactly one 1" in text for text in runs[0].warnings)
        assert runs[1].warnings == []


class TestTestArrays:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "keras.npz"
        numbers = np.arange(40.0).reshape(20, 2)
        parts = {"x_train": numbers, "y_train": np.arange(20) % 2, "x_test": -numbers[:6], "y_test": np.ones(6, int)}
        np.savez(path, **parts)  # type: ignore[arg-type]
        return path

    def test_they_are_the_test_split(self, file: Path) -> None:
        raw = source("npz", path=str(file)).load(0)
        assert raw.test_indices is not None
        assert raw.test_indices.tolist() == list(range(20, 26))
        assert np.asarray(raw.inputs)[20:].max() <= 0
        assert "x_test and y_test of 'keras.npz' are the test split" in raw.notes[0]

    def test_null_leaves_them_out(self, file: Path) -> None:
        raw = source("npz", path=str(file), test_inputs=None, test_targets=None).load(0)
        assert (len(raw), raw.test_indices, raw.notes) == (20, None, ())

    def test_named_arrays_leave_the_rest_alone(self, file: Path) -> None:
        assert len(source("npz", path=str(file), inputs="x_train", targets="y_train").load(0)) == 20

    def test_half_a_pair_and_a_validation_split_are_told(self, tmp_path: Path) -> None:
        path = tmp_path / "odd.npz"
        numbers = np.arange(40.0).reshape(20, 2)
        np.savez(path, x=numbers, y=np.arange(20) % 2, x_test=numbers, x_val=numbers, y_val=np.zeros(20))
        raw = source("npz", path=str(path)).load(0)
        assert len(raw) == 20
        assert any("x_test without its counterpart" in text for text in raw.notes)
        assert any("x_val and y_val would make a validation split" in text for text in raw.notes)

    def test_one_alone_is_refused(self, file: Path) -> None:
        with pytest.raises(InputError, match="go together"):
            source("npz", path=str(file), test_inputs="x_test").load(0)


class TestPythonSource:
    def read(self, value: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        import sys
        import types

        module = types.ModuleType("given_by_a_test")
        module.give = lambda: value  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "given_by_a_test", module)
        return source("python", target="given_by_a_test:give").load(0)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int8])
    def test_tensors_of_any_width(self, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
        numbers = torch.arange(12).reshape(6, 2)
        raw = self.read((numbers.to(dtype), torch.tensor([0, 1] * 3)), monkeypatch)
        assert np.asarray(raw.inputs).tolist() == numbers.tolist()

    def test_what_is_masked_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        numbers = np.ma.masked_equal(np.arange(8).reshape(4, 2), 5)
        read = np.asarray(self.read((numbers, ["a", "b"] * 2), monkeypatch).inputs)
        assert (read[0, 1], np.argwhere(np.isnan(read)).tolist()) == (1, [[2, 1]])
        whole = np.ma.masked_equal(np.arange(8).reshape(4, 2), 100)
        assert np.asarray(self.read((whole, ["a", "b"] * 2), monkeypatch).inputs).tolist() == whole.data.tolist()
        with pytest.raises(InputError, match="1 missing values"):
            self.read((np.zeros((4, 2)), np.ma.masked_equal([0, 1, 5, 1], 5)), monkeypatch)

    def test_a_list_of_tensors_and_a_sparse_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = [torch.tensor([1.0, 0.0], dtype=torch.bfloat16), torch.tensor([0.0, 2.0], dtype=torch.bfloat16)]
        assert np.asarray(self.read((rows, ["a", "b"]), monkeypatch).inputs).tolist() == [[1, 0], [0, 2]]
        sparse = torch.tensor([[0.0, 3.0], [1.0, 0.0]]).to_sparse()
        assert np.asarray(self.read((sparse, ["a", "b"]), monkeypatch).inputs).tolist() == [[0, 3], [1, 0]]

    @pytest.mark.parametrize(
        "value",
        [
            (torch.utils.data.TensorDataset(torch.zeros(3, 2), torch.zeros(3)), None),
            ([[1, 2], [3]], [0, 1]),
            ("inputs", "targets"),
            (np.zeros((3, 2)), None),
            ({"a": [1]}, [1]),
            (np.zeros((3, 2)), object()),
            (iter([1, 2]), [0, 1]),
        ],
        ids=["dataset", "ragged", "texts", "no targets", "mapping", "object", "iterator"],
    )
    def test_what_is_no_array_is_refused(self, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(InputError, match=r"data target 'given_by_a_test:give' returned .* which is no array"):
            self.read(value, monkeypatch)


class TestAlpha:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Black icons whose drawing is in the alpha channel alone."""
        for side, columns in (("left", slice(0, 4)), ("right", slice(4, 8))):
            (tmp_path / side).mkdir()
            pixels = np.zeros((8, 8, 4), np.uint8)
            pixels[:, columns, 3] = 255
            Image.fromarray(pixels).save(tmp_path / side / "icon.png")
        return tmp_path

    def test_it_is_laid_over_white_and_told(self, folder: Path) -> None:
        raw = source("images", path=str(folder)).load(0)
        left, right = np.asarray(raw.inputs)
        assert left[:, :, :4].max() == 0
        assert left[:, :, 4:].min() == 255
        assert np.array_equal(left, right[:, :, ::-1])
        assert "2 of 2 images have transparent parts, which are laid over white" in raw.notes[0]

    def test_opaque_alpha_changes_nothing(self, tmp_path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
        for name, image in (
            ("a", Image.fromarray(pixels)),
            ("b", Image.fromarray(np.dstack([pixels, np.full((8, 8), 255, np.uint8)]))),
        ):
            (tmp_path / name).mkdir()
            image.save(tmp_path / name / "x.png")
        raw = source("images", path=str(tmp_path)).load(0)
        assert np.array_equal(*np.asarray(raw.inputs))
        assert raw.notes == ()

    def test_a_palette_with_a_transparent_color(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            image = Image.new("P", (4, 4), 0)
            image.putpalette([10, 20, 30] + [0, 0, 0] * 255)
            image.save(tmp_path / name / "x.png", transparency=0)
        assert np.asarray(source("images", path=str(tmp_path)).load(0).inputs).min() == 255
