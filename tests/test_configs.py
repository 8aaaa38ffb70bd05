"""Every file in configs/ is valid, tells editors where its schema is, and runs."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from modelopt_cli import Report, compress, distill, load, prune, train, tune

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(CONFIGS.glob("*.yaml"))
# What these are about is the user's own: tests/cli/test_init.py runs them.
OWN = ("csv", "script", "module", "weights")
RUN = [path for path in FILES if path.stem not in OWN]
# A grid is made small by fewer values, and an estimator by fewer trees.
TINY_RESNETS = ["training.batch_size=16", "model.depth=8", "distillation.teacher.model.depth=8", "seeds=1"]
TINY_RESNETS += ["distillation.teacher.training={epochs: 1, batch_size: 16}"]
SMALL = {
    "mnist_prune": ["training.batch_size=16", "gates=[]"],
    "mnist_lenet_prune": ["training.batch_size=16", "pruning.recovery.epochs=2"],
    "digits_prune": ["pruning.recovery.epochs=1", "gates=[]"],
    "digits_neurons": ["pruning.threshold=0.02", "pruning.recovery.epochs=1", "gates=[]"],
    "mnist_cnn_neurons": ["training.batch_size=16", "pruning.calibration=64", "gates=[]"],
    "digits_prune_search": ["pruning.recovery.epochs=1", "tuning.constraints=[]"],
    "digits_distill": ["distillation.teacher.training.epochs=1"],
    "mnist_hinton": ["training.batch_size=16", "distillation.teacher.training={epochs: 1, batch_size: 16}", "seeds=1"],
    **{f"cifar100_{kind}": TINY_RESNETS for kind in ("kd", "dkd", "dist")},
    "compress": ["pruning.recovery.epochs=1"],
    "digits_compress": ["pruning.recovery.epochs=1", "distillation.teacher.training.epochs=1"],
    "mnist_compress": [
        "training.batch_size=16",
        "distillation.teacher.training={epochs: 1, batch_size: 16}",
        "pruning.recovery.epochs=1",
        "pruning.calibration=64",
        "gates=[]",
    ],
    "iris_grid": ["tuning.space={model.n_estimators: [2, 3], model.max_depth: [null, 2]}"],
}


@pytest.fixture(autouse=True)
def _mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred images in MNIST's own format: a bright row tells the digit."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 160), ("t10k", 40)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = generator.integers(0, 30, (count, 28, 28), dtype=np.uint8)
        images[np.arange(count), 2 * labels + 4] = 255
        for name, array in ((f"{part}-images-idx3-ubyte.gz", images), (f"{part}-labels-idx1-ubyte.gz", labels)):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (tmp_path / name).write_bytes(gzip.compress(header + array.tobytes()))
    monkeypatch.setenv("MNIST", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few images of two of the hundred classes, a folder each."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 10), ("test", 4)):
        for brightness, name in ((40, "apple"), (200, "whale")):
            folder = tmp_path / "cifar100" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                noise = generator.integers(0, 50, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(noise + np.uint8(brightness)).save(folder / f"{number}.png")
    monkeypatch.setenv("CIFAR100", str(tmp_path / "cifar100"))


def test_there_are_configs() -> None:
    assert {"digits_mlp", "digits_random", "iris_grid", "mnist_mlp"} <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_first_line_names_a_schema_that_is_there(path: Path) -> None:
    first, second = path.read_text().splitlines()[:2]
    prefix, _, schema = first.partition("$schema=")
    assert prefix == "# yaml-language-server: "
    assert json.loads((path.parent / schema).read_text())["properties"]
    assert second.startswith("# "), "the second line says what the file does; `modelopt init` shows it"


@pytest.mark.slow
@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_it_runs(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    overrides = list(SMALL.get(path.stem, []))
    overrides += ["training.epochs=1"] if "training" in document else []
    report: Report
    if "tuning" in document:
        experiment = load(path, [*overrides, "tuning.trials=4", "tuning.executor=serial", "gates=[]"])
        report = tune(experiment)
        rows = report.tables["trials"].rows
        assert len(rows) == 4
        assert {row[report.tables["trials"].columns.index("state")] for row in rows} == {"completed"}
    elif "pruning" in document and "distillation" in document:
        report = compress(load(path, overrides))
        columns = report.tables["stages"].columns
        stages = [row[columns.index("stage")] for row in report.tables["stages"].rows]
        assert stages == ["train", "distill", "prune", "recover", "quantize"]
    elif "pruning" in document:
        report = prune(load(path, overrides))
        assert report.metrics.get("pruning.sparsity", report.metrics.get("pruning.units_removed", 0.0)) > 0
        columns = report.tables["stages"].columns
        assert [row[columns.index("stage")] for row in report.tables["stages"].rows] == ["before", "pruned", "final"]
    elif "distillation" in document:
        report = distill(load(path, overrides))
        columns = report.tables["learners"].columns
        learners = {row[columns.index("learner")] for row in report.tables["learners"].rows}
        assert learners == {"teacher", "student alone", "student"}
    else:
        report = train(load(path, overrides))
    assert report.status == "completed"
    assert report.model is not None
    assert 0 < report.metrics["test.accuracy"] <= 1


def test_mnist_learns_and_keeps_the_data_sets_own_test_split() -> None:
    report = train(load(CONFIGS / "mnist_mlp.yaml", ["training.epochs=40", "training.optimizer.lr=0.1"]))
    assert report.metrics["test.accuracy"] > 0.9
    assert [gate.met for gate in report.gates] == [True]
    assert report.metrics["model.parameters"] == 784 * 128 + 128 + 128 * 10 + 10
