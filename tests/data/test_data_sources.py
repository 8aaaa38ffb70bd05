"""Every source but tables: bundled, npz, idx, images, python, and the contract that all of them keep."""

from __future__ import annotations

import gzip
import os
import struct
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets
from PIL import Image

from modelopt_cli.core.errors import InputError, ModeloptError, RefusedError, UsageError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.data.prepared import prepare
from modelopt_cli.data.raw import RawData
from modelopt_cli.data.sources import DataSource
from modelopt_cli.data.splits import split

RNG = np.random.default_rng(0)


def make(name: str, **options: Any) -> DataSource:
    chosen = FAMILIES["data"].get(name).model_validate(options)
    assert isinstance(chosen, DataSource)
    return chosen


def load(name: str, **options: Any) -> RawData:
    return make(name, **options).load(0)


def write_idx(path: Path, array: np.ndarray, claim: tuple[int, ...] | None = None, code: int = 8) -> None:
    shape = claim or array.shape
    content = struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def mnist_like(folder: Path, end: str = "") -> tuple[np.ndarray, np.ndarray]:
    images, labels = RNG.integers(0, 256, (30, 4, 5), dtype=np.uint8), (np.arange(30) % 3).astype(np.uint8)
    write_idx(folder / f"train-images-idx3-ubyte{end}", images[:20])
    write_idx(folder / f"train-labels-idx1-ubyte{end}", labels[:20])
    write_idx(folder / f"t10k-images-idx3-ubyte{end}", images[20:])
    write_idx(folder / f"t10k-labels-idx1-ubyte{end}", labels[20:])
    return images, labels


def class_folders(folder: Path, mode: str = "RGB", parts: tuple[str, ...] = (".",), count: int = 6) -> None:
    for part in parts:
        for name in ("cat", "dog"):
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                shape = (6, 8, 3) if mode == "RGB" else (6, 8)
                pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number:02}.png")


def make_csv(folder: Path) -> dict[str, Any]:
    rows = "".join(f"{i},{'ab'[i % 2]},{'no' if i % 3 else 'yes'}\n" for i in range(30))
    (folder / "d.csv").write_text("x,c,y\n" + rows)
    return {"path": str(folder / "d.csv"), "target": "y"}


def make_parquet(folder: Path) -> dict[str, Any]:
    make_csv(folder)
    pd.read_csv(folder / "d.csv").to_parquet(folder / "d.parquet")
    return {"path": str(folder / "d.parquet"), "target": "y"}


def make_npz(folder: Path) -> dict[str, Any]:
    np.savez(folder / "d.npz", X=RNG.normal(size=(30, 3)), y=np.arange(30) % 2)
    return {"path": str(folder / "d.npz")}


def make_idx(folder: Path) -> dict[str, Any]:
    mnist_like(folder)
    return {"path": str(folder)}


def make_images(folder: Path) -> dict[str, Any]:
    class_folders(folder)
    return {"path": str(folder)}


def make_python(folder: Path) -> dict[str, Any]:
    (folder / "usercode_contract.py").write_text(
        "import numpy as np\ndef data():\n    return np.arange(60.0).reshape(30, 2), np.arange(30) % 2\n"
    )
    return {"target": "usercode_contract:data", "folder": str(folder)}


MAKERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "csv": make_csv,
    "parquet": make_parquet,
    "npz": make_npz,
    "idx": make_idx,
    "images": make_images,
    "python": make_python,
}


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith("usercode")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", [name for name in FAMILIES["data"].names() if name != "openml"])
def test_contract(name: str, tmp_path: Path) -> None:
    """Rows agree, the fingerprint is stable, and what is loaded can be split and prepared for both frameworks."""
    source = make(name, **(MAKERS[name](tmp_path) if name in MAKERS else {}))
    raw, again = source.load(0), source.load(0)
    assert len(raw.inputs) == len(raw.targets) == len(raw)
    assert raw.fingerprint
    assert raw.fingerprint == again.fingerprint
    assert source.only_task in (None, raw.task)
    assert source.only_classes in (None, len(raw.label_names))
    assert source.brings_test or raw.test_indices is None
    if raw.task == "classification":
        assert raw.targets.dtype == np.int64
        assert sorted(set(raw.targets)) == list(range(len(raw.label_names)))
    for framework in ("torch", "sklearn"):
        ready = prepare(source, raw, split(raw, source.splits, 0), framework)
        assert ready.train.inputs.shape[1:] == ready.shapes.inputs
        assert ready.train.inputs.dtype in (np.float32, np.float64, np.uint8)
        assert ready.train.inputs.flags.writeable
        assert np.isfinite(ready.train.inputs).all()


@pytest.mark.parametrize("name", FAMILIES["data"].names())
def test_path_fields_are_options(name: str) -> None:
    source = FAMILIES["data"].get(name)
    assert set(source.path_fields) <= set(source.model_fields)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits", "diabetes"])
def test_bundled_data_are_scikit_learns(name: str) -> None:
    inputs, targets = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    raw = load(name)
    assert np.array_equal(raw.inputs, inputs)
    assert np.array_equal(raw.targets, targets)
    assert len(raw.feature_names) == inputs.shape[1]


def test_digits_as_images() -> None:
    raw = load("digits", shape="image")
    assert raw.inputs.shape == (1797, 1, 8, 8)
    assert np.array_equal(np.asarray(raw.inputs).reshape(1797, 64), load("digits").inputs)


class TestNpz:
    def test_keys_and_test_arrays(self, tmp_path: Path) -> None:
        images = RNG.integers(0, 256, (8, 6, 5), dtype=np.uint8)
        np.savez_compressed(tmp_path / "d.npz", a=images, b=[0, 1] * 4, x_test=images[:2], y_test=[1, 0], w=np.ones(10))
        options = {"inputs": "a", "targets": "b", "test_inputs": "x_test", "test_targets": "y_test", "weights": "w"}
        raw = load("npz", path=str(tmp_path / "d.npz"), **options)
        assert raw.inputs.shape == (10, 1, 6, 5)
        assert raw.test_indices is not None
        assert raw.test_indices.tolist() == [8, 9]

    def test_layouts_and_kinds(self, tmp_path: Path) -> None:
        cases: list[tuple[np.ndarray, dict[str, Any], tuple[int, ...], type]] = [
            (np.zeros((4, 6, 5, 3), np.uint8), {}, (4, 3, 6, 5), np.uint8),
            (np.zeros((4, 3, 6, 5), np.uint8), {}, (4, 3, 6, 5), np.uint8),
            (np.zeros((4, 6, 5, 2), np.uint8), {"layout": "channels_last"}, (4, 2, 6, 5), np.uint8),
            (np.zeros((4, 7), np.int32), {}, (4, 7), np.float64),
            (np.zeros((4, 7), np.int32), {"tokens": True}, (4, 7), np.int64),
            (np.zeros((4, 7, 2), np.float16), {}, (4, 7, 2), np.float32),
            (np.zeros(4), {}, (4, 1), np.float64),
            (np.asfortranarray(np.zeros((4, 2))), {}, (4, 2), np.float64),
        ]
        for array, options, shape, dtype in cases:
            np.savez(tmp_path / "d.npz", X=array, y=[0, 1, 0, 1])
            raw = load("npz", path=str(tmp_path / "d.npz"), **options)
            assert raw.inputs.shape == shape
            assert np.asarray(raw.inputs).dtype == dtype

    def test_multilabel_and_regression(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", X=np.zeros((3, 2)), y=np.array([[0, 1], [1, 0], [1, 1]]))
        assert load("npz", path=str(tmp_path / "d.npz")).task == "multilabel"
        np.savez(tmp_path / "d.npz", X=np.zeros((3, 2)), y=np.array([0.5, 1, 2]))
        assert load("npz", path=str(tmp_path / "d.npz")).task == "regression"

    def test_mistakes(self, tmp_path: Path) -> None:
        path = str(tmp_path / "d.npz")
        np.savez(path, X=np.zeros((4, 2)), y=np.array(["a", "b", None, "a"], object))
        with pytest.raises(RefusedError, match=r"array 'y' of .* pickled Python objects, which run code"):
            load("npz", path=path)
        np.savez(path, features=np.zeros((4, 2)), y=[0, 1, 0, 1])
        with pytest.raises(InputError, match="set 'inputs' to one of: features, y"):
            load("npz", path=path)
        with pytest.raises(InputError, match=r"no array 'featurs'\. Did you mean 'features'"):
            load("npz", path=path, inputs="featurs")
        np.savez(path, X=np.zeros((4, 2)), y=[0, 1, 0])
        with pytest.raises(InputError, match=r"\(4, 2\) and 'y' \(3,\)"):
            load("npz", path=path)
        np.savez(path, X=np.zeros((4, 2)), y=[1, 1, 1, 1])
        with pytest.raises(InputError, match="only one class"):
            load("npz", path=path)
        np.savez(path, X=np.array([["a"], ["b"]]), y=[0, 1])
        with pytest.raises(InputError, match="must be numbers"):
            load("npz", path=path)
        np.savez(path, X=np.zeros((2, 2)), y=[0, 1], w=[-1, 1])
        with pytest.raises(InputError, match="0 or more"):
            load("npz", path=path, weights="w")
        with pytest.raises(InputError, match="go together"):
            load("npz", path=path, test_inputs="X")

    def test_zeros_that_unpack_to_far_more_are_refused(self, tmp_path: Path) -> None:
        np.savez_compressed(tmp_path / "d.npz", X=np.zeros((2**25, 3), np.uint8), y=np.arange(30) % 2)
        with pytest.raises(RefusedError, match=r"array 'X' of .* unpacks to 100,\d+,\d+ bytes, more than 500 times"):
            load("npz", path=str(tmp_path / "d.npz"))

    def test_a_negative_shape_is_damage(self, tmp_path: Path) -> None:
        np.save(tmp_path / "X.npy", np.ones((30, 3)))
        content = (tmp_path / "X.npy").read_bytes().replace(b"(30, 3)", b"(-1, 3)")
        with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
            archive.writestr("X.npy", content)
            archive.writestr("y.npy", content)
        with pytest.raises(InputError, match=r"array 'X' of .* is damaged: its shape is"):
            load("npz", path=str(tmp_path / "d.npz"))

    def test_a_header_that_claims_too_much_is_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", X=np.zeros((4, 2)), y=[0, 1, 0, 1])
        with zipfile.ZipFile(tmp_path / "d.npz") as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        huge = members["X.npy"].replace(b"(4, 2), }          ", b"(4000000000000, 2)}")
        assert huge != members["X.npy"]
        with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
            archive.writestr("X.npy", huge)
            archive.writestr("y.npy", members["y.npy"])
        with pytest.raises(RefusedError, match="claims 64,000,000,000,000 bytes, but the file holds"):
            load("npz", path=str(tmp_path / "d.npz"))

    @pytest.mark.parametrize("seed", range(30))
    def test_damage_is_told_without_a_traceback(self, tmp_path: Path, seed: int) -> None:
        np.savez_compressed(tmp_path / "d.npz", X=RNG.normal(size=(40, 3)), y=np.arange(40) % 2)
        content = bytearray((tmp_path / "d.npz").read_bytes())
        random = np.random.default_rng(seed)
        if seed % 3 == 0:
            content = content[: random.integers(0, len(content))]
        else:
            for position in random.integers(0, len(content), 10):
                content[position] = random.integers(0, 256)
        (tmp_path / "d.npz").write_bytes(content)
        with suppress(InputError, RefusedError):  # or it loads: some damage does not show
            load("npz", path=str(tmp_path / "d.npz"))


class TestIdx:
    @pytest.mark.parametrize("end", ["", ".gz"])
    def test_folder(self, tmp_path: Path, end: str) -> None:
        images, labels = mnist_like(tmp_path, end)
        raw = load("idx", path=str(tmp_path))
        assert np.array_equal(np.asarray(raw.inputs)[:, 0], images)
        assert np.array_equal(raw.targets, labels)
        assert raw.test_indices is not None
        assert raw.test_indices.tolist() == list(range(20, 30))
        assert raw.label_names == ("0", "1", "2")

    def test_train_files_alone_and_dotted_names(self, tmp_path: Path) -> None:
        mnist_like(tmp_path)
        for item in list(tmp_path.iterdir()):
            if "t10k" in item.name:
                item.unlink()
            else:
                item.rename(tmp_path / item.name.replace("-idx", ".idx"))
        raw = load("idx", path=str(tmp_path))
        assert raw.test_indices is None
        assert len(raw) == 20

    @pytest.mark.parametrize(("code", "dtype"), [(9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")])
    def test_types(self, tmp_path: Path, code: int, dtype: str) -> None:
        from modelopt_cli.data.idx_files import read_idx

        array = RNG.integers(-100, 100, (3, 2)).astype(dtype)
        write_idx(tmp_path / "a-images-idx2-ubyte", array, code=code)
        images = read_idx(tmp_path / "a-images-idx2-ubyte")
        assert np.array_equal(images, array)
        assert images.dtype.isnative

    @pytest.mark.parametrize("end", ["", ".gz"])
    def test_damage(self, tmp_path: Path, end: str) -> None:
        def broken(message: str, error: type[ModeloptError] = InputError) -> None:
            with pytest.raises(error, match=message):
                load("idx", path=str(tmp_path))

        images, _ = mnist_like(tmp_path, end)
        target = tmp_path / f"train-images-idx3-ubyte{end}"
        write_idx(target, images[:20], (2**32 - 1, 2**32 - 1, 2**32 - 1))
        broken("claims [0-9,]+ bytes", RefusedError)
        write_idx(target, images[:20], (21, 4, 5))
        broken("is cut off")
        write_idx(target, images[:20], (19, 4, 5))
        broken("holds more than its header says" if end == "" else "holds more")
        write_idx(target, images[:19])
        broken(r"train files have 19 images, but labels of shape \(20,\)")
        write_idx(target, np.zeros((20, 3, 3), np.uint8))
        broken("differ in shape")
        write_idx(target, images[:20], code=7)
        broken("is no IDX file: it starts with 00 00 07 03")
        whole = gzip.compress(b"\0\0\x08\x03") if end else b"\0\0\x08\x03"
        target.write_bytes(whole)
        broken("cut off in its header")
        target.write_bytes(b"")
        broken("starts with nothing")
        target.unlink()
        broken("none with its images")

    def test_a_cut_or_flipped_gzip_file(self, tmp_path: Path) -> None:
        mnist_like(tmp_path, ".gz")
        target = tmp_path / "train-images-idx3-ubyte.gz"
        content = target.read_bytes()
        target.write_bytes(content[:-30])
        with pytest.raises(InputError, match="cut off"):
            load("idx", path=str(tmp_path))
        target.write_bytes(content[:60] + bytes(byte ^ 255 for byte in content[60:70]) + content[70:])
        with pytest.raises(InputError, match=r"damaged|cut off"):
            load("idx", path=str(tmp_path))

    def test_folders(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"holds no IDX files, e\.g\. train-images.* it holds: nothing"):
            load("idx", path=str(tmp_path))
        with pytest.raises(InputError, match="no folder"):
            load("idx", path=str(tmp_path / "mnist"))

    @pytest.mark.slow
    def test_real_mnist(self) -> None:
        folder = os.environ.get("MNIST", "/work/shared/data/mnist")
        if not Path(folder).is_dir():
            pytest.skip("no MNIST here; set the environment variable MNIST to its folder")
        source = make("idx", path=folder)
        raw = source.load(0)
        ready = prepare(source, raw, split(raw, None, 0))
        assert raw.inputs.shape == (70_000, 1, 28, 28)
        assert ready.preprocessing.image_mean == pytest.approx(0.1307, abs=5e-4)
        assert ready.preprocessing.image_std == pytest.approx(0.3081, abs=5e-4)


class TestImages:
    def test_pixels_and_order(self, tmp_path: Path) -> None:
        class_folders(tmp_path)
        (tmp_path / ".hidden").mkdir()
        (tmp_path / "cat" / "notes.txt").write_text("not an image")
        raw = load("images", path=str(tmp_path))
        assert raw.inputs.shape == (12, 3, 6, 8)
        assert (raw.label_names, raw.targets.tolist()) == (("cat", "dog"), [0] * 6 + [1] * 6)
        expected = np.asarray(Image.open(tmp_path / "dog" / "02.png")).transpose(2, 0, 1)
        assert np.array_equal(np.asarray(raw.inputs)[8], expected)

    def test_gray_and_modes(self, tmp_path: Path) -> None:
        class_folders(tmp_path, "L")
        assert load("images", path=str(tmp_path)).inputs.shape == (12, 1, 6, 8)
        assert load("images", path=str(tmp_path), mode="color").inputs.shape == (12, 3, 6, 8)
        Image.new("RGBA", (8, 6), (1, 2, 3, 4)).save(tmp_path / "dog" / "99.png")
        assert load("images", path=str(tmp_path)).inputs.shape == (13, 3, 6, 8)
        assert load("images", path=str(tmp_path), mode="gray").inputs.shape == (13, 1, 6, 8)

    def test_resizing(self, tmp_path: Path) -> None:
        class_folders(tmp_path)
        Image.new("RGB", (20, 10)).save(tmp_path / "dog" / "99.png")
        with pytest.raises(InputError, match=r"99\.png' has 20x10 pixels, but .*00\.png' has 8x6; set 'size"):
            load("images", path=str(tmp_path))
        assert load("images", path=str(tmp_path), size=[5, 7]).inputs.shape == (13, 3, 5, 7)

    def test_train_and_test_folders(self, tmp_path: Path) -> None:
        class_folders(tmp_path, parts=("train", "test"), count=3)
        raw = load("images", path=str(tmp_path))
        assert raw.test_indices is not None
        assert raw.test_indices.tolist() == list(range(6, 12))
        (tmp_path / "test" / "cow").mkdir()
        Image.new("RGB", (8, 6)).save(tmp_path / "test" / "cow" / "0.png")
        with pytest.raises(InputError, match=r"cow' is a class that .*train' does not have"):
            load("images", path=str(tmp_path))
        class_folders(tmp_path, parts=("val",), count=1)
        with pytest.raises(InputError, match="also val/"):
            load("images", path=str(tmp_path))

    def test_corrupt_and_disguised_files(self, tmp_path: Path) -> None:
        class_folders(tmp_path)
        target = tmp_path / "cat" / "03.png"
        content = target.read_bytes()
        for bad in (
            content[: len(content) // 2],
            b"no image at all",
            b"",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        ):
            target.write_bytes(bad)
            with pytest.raises(InputError, match=r"cat/03\.png' is (damaged|no image)"):
                load("images", path=str(tmp_path))

    def test_bombs_are_refused_before_they_unpack(self, tmp_path: Path) -> None:
        class_folders(tmp_path)
        Image.new("1", (15_000, 12_000)).save(tmp_path / "cat" / "01.png")  # 22 kB for 180 million pixels
        with pytest.raises(RefusedError, match=r"cat/01\.png' has .* more than max_pixels"):
            load("images", path=str(tmp_path))
        with pytest.raises(RefusedError, match="8x6 pixels, more than max_pixels = 10"):
            load("images", path=str(tmp_path), max_pixels=10)
        class_folders(tmp_path / "more")
        with pytest.raises(RefusedError, match="GiB"):
            load("images", path=str(tmp_path / "more"), size=[10**6, 10**6])

    def test_sixteen_bits_are_not_clipped_silently(self, tmp_path: Path) -> None:
        class_folders(tmp_path)
        Image.fromarray(np.full((6, 8), 60_000, np.uint16)).save(tmp_path / "cat" / "01.png")
        with pytest.raises(InputError, match="more than 8 bits"):
            load("images", path=str(tmp_path))

    def test_folders(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no class folders"):
            load("images", path=str(tmp_path))
        (tmp_path / "cat").mkdir()
        with pytest.raises(InputError, match="holds no images"):
            load("images", path=str(tmp_path))
        Image.new("RGB", (8, 6)).save(tmp_path / "cat" / "01.png")
        with pytest.raises(InputError, match="one class folder, 'cat'"):
            load("images", path=str(tmp_path))


class TestPython:
    def run(self, tmp_path: Path, code: str, **options: Any) -> RawData:
        name = f"usercode_{time.monotonic_ns()}"
        (tmp_path / f"{name}.py").write_text("import numpy as np\n" + code)
        return load("python", target=f"{name}:data", folder=str(tmp_path), **options)

    def test_results(self, tmp_path: Path) -> None:
        raw = self.run(tmp_path, "def data(n):\n    return np.eye(n), ['a', 'b'] * (n // 2)\n", arguments={"n": 4})
        assert (raw.label_names, raw.inputs.shape) == (("a", "b"), (4, 4))
        raw = self.run(
            tmp_path,
            "import pandas as pd\ndef data():\n"
            "    return pd.DataFrame({'x': [1, 2], 'c': ['u', 'v']}), pd.Series([1.5, 2], name='price')\n",
        )
        assert (raw.feature_names, raw.target_names, raw.task) == (("x", "c"), ("price",), "regression")
        raw = self.run(tmp_path, "import torch\ndef data():\n    return torch.zeros(4, 3, 5), torch.arange(4) % 2\n")
        assert (raw.inputs.shape, raw.task) == ((4, 3, 5), "classification")
        raw = self.run(
            tmp_path,
            "from modelopt_cli.data.raw import RawData\n"
            "def data():\n    return RawData(np.eye(2), np.arange(2), 'classification', ('x', 'y'))\n",
        )
        assert raw.fingerprint

    def test_the_seed_is_given_to_those_who_take_it(self, tmp_path: Path) -> None:
        code = "def data(seed):\n    return np.random.default_rng(seed).normal(size=(4, 2)), [0, 1, 0, 1]\n"
        expected = np.random.default_rng(0).normal(size=(4, 2))
        assert np.array_equal(self.run(tmp_path, code).inputs, expected)
        assert not np.array_equal(self.run(tmp_path, code, arguments={"seed": 3}).inputs, expected)

    @pytest.mark.parametrize(
        ("code", "message"),
        [
            ("def data():\n    x = 1\n    return 1 / 0\n", r"failed: .*usercode_\d+\.py:4: ZeroDivisionError"),
            ("def data():\n    raise SystemExit(3)\n", r"failed: .*usercode_\d+\.py:3: SystemExit"),
            ("def data(path):\n    pass\n", r"does not take these arguments: missing a required argument: 'path'"),
            ("def data():\n    return 3\n", r"returned int; it must return \(inputs, targets\)"),
            ("def data():\n    return 1, 2, 3\n", r"returned 3 values"),
            ("data = 3\n", r"is a int, but must be a function"),
            ("def dato():\n    pass\n", r"no attribute 'data'\. Did you mean 'dato'"),
            ("def data():\n    return [['a']], [1]\n", r"must be numbers"),
            ("1 / 0\n", r"cannot be imported: .*usercode_\d+\.py:2: ZeroDivisionError"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, code: str, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            self.run(tmp_path, code)

    def test_the_form_of_the_target_is_checked_at_once(self) -> None:
        with pytest.raises(ValueError, match="is no target"):
            make("python", target="my_module.data")
