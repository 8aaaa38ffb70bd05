"""Two runs in one process: what has changed in between is read anew; within a run data are read once."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelopt_cli import api
from modelopt_cli.data.sources.csv import Csv
from modelopt_cli.workflows.shared import data_cache
from modelopt_cli.workflows.shared.run_scope import one_run

MODEL: dict[str, Any] = {"model": {"type": "mlp", "hidden": [4]}, "training": {"epochs": 1, "batch_size": 8}}
RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 60))


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith("scope_")]:
        del sys.modules[name]


def write(path: Path, shift: int, labels: tuple[str, str] = ("n", "p")) -> None:
    """Always of one length, and with one time of change, so that only the content tells versions apart."""
    rows = "".join(f"{a + shift:+09.3f},{labels[int(a + b > 0)]}\n" for a, b in zip(A, B, strict=True))
    path.write_text("a,y\n" + rows)
    os.utime(path, ns=(10**18, 10**18))


def trained(data: dict[str, Any], **sections: Any) -> Any:
    return api.train(api.load({"data": data, **MODEL, **sections})).model


def test_a_file_that_was_written_again(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    data = {"type": "csv", "path": str(path), "target": "y"}
    for shift, labels in ((0, ("n", "p")), (1000, ("n", "p")), (1000, ("N", "P"))):
        write(path, shift, labels)
        checkpoint = trained(data)
        assert checkpoint.preprocessing["mean"][0] == pytest.approx(shift, abs=1)
        assert checkpoint.label_names == labels


def test_a_function_that_was_defined_again() -> None:
    module = types.ModuleType("scope_notebook")
    sys.modules["scope_notebook"] = module
    for shift in (0, 1000):
        module.make = lambda shift=shift: (np.stack([A + shift, B], 1), (A + B > 0).astype(int))  # type: ignore[attr-defined]
        assert trained({"type": "python", "target": "scope_notebook:make"}).preprocessing["mean"][0] == pytest.approx(
            shift, abs=1
        )


@pytest.mark.parametrize("changed", ["scope_main", "scope_helper"])
def test_a_module_that_was_written_again(changed: str, tmp_path: Path) -> None:
    """Also one that the named module imports; of the same size and in the same second, as Python's cache looks at."""
    (tmp_path / "scope_helper.py").write_text("SHIFT = 1000\n")
    (tmp_path / "scope_main.py").write_text(
        "import numpy as np, scope_helper\nOWN = 1000\ndef make():\n    a = np.arange(60.0).reshape(30, 2)\n"
        "    return a + scope_helper.SHIFT + OWN, np.arange(30) % 2\n"
    )
    data = {"type": "python", "target": "scope_main:make", "folder": str(tmp_path)}
    first = trained(data).preprocessing["mean"][0]
    again = trained(data).preprocessing["mean"][0]
    path = tmp_path / f"{changed}.py"
    status = path.stat()
    path.write_text(path.read_text().replace("1000", "7000"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert trained(data).preprocessing["mean"][0] - first == pytest.approx(6000)
    assert again == first


def test_a_model_that_was_written_again(tmp_path: Path) -> None:
    text = "from torch import nn\ndef build(inputs, outputs):\n    return nn.Linear(4, 3, bias={})\n"
    sections = {"model": {"type": "python", "target": "scope_net:build", "folder": str(tmp_path)}}
    counts = []
    for bias in ("True ", "False"):
        (tmp_path / "scope_net.py").write_text(text.format(bias))
        report = api.train(api.load({"data": {"type": "iris"}, "training": {"epochs": 1}, **sections}))
        counts.append(report.metrics["model.parameters"])
    assert counts == [15, 12]


def test_within_a_run_data_are_read_once_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.csv"
    write(path, 0)
    reads: list[int] = []
    load = Csv.load

    def counted(self: Csv, seed: int) -> Any:
        reads.append(seed)
        return load(self, seed)

    monkeypatch.setattr(Csv, "load", counted)
    experiment = api.load(
        {
            "data": {"type": "csv", "path": str(path), "target": "y"},
            **MODEL,
            "tuning": {
                "objective": "maximize validation.accuracy",
                "trials": 4,
                "executor": "serial",
                "space": {"model.hidden.0": [2, 3, 4, 5]},
            },
        }
    )
    api.tune(experiment)
    assert len(reads) == 1
    api.train(api.load({"data": {"type": "csv", "path": str(path), "target": "y"}, **MODEL, "seeds": 2}))
    assert len(reads) <= 3  # once to write its splits down, and once for all seeds
    with one_run():
        kept = data_cache.raw_data(experiment)
        with one_run():
            assert data_cache.raw_data(experiment) is kept
    with one_run():
        assert data_cache.raw_data(experiment) is not kept
