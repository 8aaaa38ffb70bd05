"""`modelopt inspect`: counted by hand and by numpy; measured where the module can be built."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from modelopt_cli.core.errors import InputError
from modelopt_cli.models import latency as timing
from modelopt_cli.workflows.shared.module_of_file import load_weights
from tests.support.cli import Cli

IRIS = """\
data: {type: iris}
model: {type: mlp, hidden: [8]}
device: cpu
"""
MACS = 4 * 8 + 8 * 3


@pytest.fixture
def iris(tmp_path: Path) -> Path:
    """An experiment file; its model's weights lie beside it, as DataParallel saves them, in bare.pt."""
    state = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).state_dict()
    torch.save({"state_dict": {f"module.layers.{name}": item for name, item in state.items()}}, tmp_path / "bare.pt")
    (tmp_path / "iris.yaml").write_text(IRIS)
    return tmp_path / "iris.yaml"


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few timed runs are enough where the times do not matter."""
    real = timing.latency
    monkeypatch.setattr(timing, "latency", lambda *given, **more: real(*given, **{**more, "runs": 4, "seconds": 0.1}))


def test_counts_and_histograms(cli: Cli, tmp_path: Path) -> None:
    weight = torch.tensor([[0.0, -2.0, 1.0, 0.5], [0.0, 0.0, 2.0, float("nan")]])
    state = {"a.weight": weight, "b.weight": weight, "steps": torch.tensor(3), "none": torch.empty(0, 4)}
    torch.save({"state_dict": state}, "m.pt")
    report = json.loads(cli("inspect", "m.pt", "--json").out)
    rows = {row[0]: row[1:] for row in report["tables"]["layers"]["rows"]}
    finite = weight[weight.isfinite()].double().numpy()
    assert rows["a.weight"][:5] == ["2x4", "float32", 8, 3, 3 / 8]
    np.testing.assert_allclose(rows["a.weight"][5:8], [finite.mean(), finite.std(), 2.0])
    assert rows["b.weight"][-1] == "a.weight", "tied"
    assert rows["steps"][:3] == ["scalar", "int64", 1]
    expected, _ = np.histogram(finite, bins=16, range=(-2, 2))
    assert report["details"]["histograms"]["a.weight"] == expected.tolist()
    assert report["metrics"]["model.parameters"] == 8, "neither twice nor integers"
    assert report["metrics"]["model.nonzero"] == 5
    assert not any(name in report["metrics"] for name in ("model.macs", "model.latency_ms"))
    assert "the weights under 'state_dict'" in report["details"]["note"]


def test_the_table_names_everything(cli: Cli, quick: Path) -> None:
    assert cli("train", quick, "--quiet", "--out", "run").code == 0
    result = cli("inspect", "run/model.pt")
    assert result.code == 0
    for part in (*torch.load("run/model.pt", weights_only=True)["state"], "f32", "8x4", "compressed", "█"):
        assert part in result.out


def test_what_is_no_model(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_text("no")
    for name, code in (("x.pt", 2), ("absent.pt", 2)):
        result = cli("inspect", name)
        assert result.code == code
        assert name in result.err


def test_a_model_of_modelopt_is_measured_on_request(cli: Cli, quick: Path, brief: None) -> None:
    assert cli("train", quick, "--quiet", "--out", "run").code == 0
    report = json.loads(cli("inspect", "run/model.pt", "--measure", "--json").out)
    metrics, tables = report["metrics"], report["tables"]
    assert (metrics["model.macs"], metrics["model.flops"]) == (MACS, 2 * MACS)
    assert tables["macs"]["rows"] == [["layers.0", "Linear", 32], ["layers.2", "Linear", 24]]
    assert tables["latency"]["columns"][:5] == ["model", "batch size", "median ms", "low ms", "high ms"]
    for (model, size, median, low, high, rate, threads, runtime, device, relative), metric in zip(
        tables["latency"]["rows"], ("model.latency_ms", "model.latency_ms_64"), strict=True
    ):
        assert (model, threads, runtime, device, relative) == ("model.pt", 1, "eager", "cpu", None)
        assert low <= median <= high
        assert metrics[metric] == median
        np.testing.assert_allclose(rate, 1000 * size / median)
    shown = cli("inspect", "run/model.pt", "--experiment", quick).out
    for part in (f"{MACS} MACs", "57.1%", "latency of a batch", "1 thread, float32 inputs; 4 and 4 warm runs\n"):
        assert part in shown


def test_bare_weights_beside_a_baseline(cli: Cli, iris: Path, brief: None) -> None:
    state = torch.load("bare.pt", weights_only=True)["state_dict"]
    torch.save({name: item.masked_fill(item.abs() < 0.2, 0.0) for name, item in state.items()}, "sparse.pt")
    words = ("inspect", "sparse.pt", "--experiment", iris, "--baseline", "bare.pt")
    report = json.loads(cli(*words, "--json").out)
    assert report["metrics"]["model.macs"] == MACS, "zeros count"
    assert report["details"]["measured"]["baseline"]["model.macs"] == MACS
    assert report["details"]["measured"]["baseline"]["model.sparsity"] < report["metrics"]["model.sparsity"]
    rows = [(row[0], row[1], row[-1]) for row in report["tables"]["latency"]["rows"]]
    assert [row[:2] for row in rows] == [(name, n) for n in (1, 64) for name in ("sparse.pt", "bare.pt (baseline)")]
    assert [row[2] for row in rows[1::2]] == [1.0, 1.0]
    assert all(row[2] > 0 for row in rows)
    shown = cli(*words).out
    for part in ("zeros count like other weights", f"the baseline's {MACS}", "relative", "in turns", "bare.pt"):
        assert part in shown


def test_weights_by_name_with_prefix_ties_and_counters(tmp_path: Path) -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.norm, self.head = torch.nn.Embedding(5, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 5)
            self.head.weight = self.embed.weight

    source, module = Tied(), Tied()
    left_out = ("head.weight", "norm.num_batches_tracked")
    state = {f"module.{name}": item.half() for name, item in source.state_dict().items() if name not in left_out}
    load_weights(module, state, tmp_path)
    assert module.head.weight.dtype == torch.float32
    assert torch.equal(module.head.weight, source.embed.weight.half().float())
    state["other"] = torch.zeros(1)
    with pytest.raises(InputError, match=r"missing: embed\.weight, .*unexpected: module\.embed\.weight, "):
        load_weights(module, state, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("data: {type: iris}", "", "no data section"),
        ("model: {type: mlp, hidden: [8]}", "", "no model section"),
        ("hidden: [8]", "hidden: [8, 8]", "missing: layers.4.weight, layers.4.bias"),
        ("hidden: [8]", "hidden: [9]", "layers.0.weight (8x4, the model's 9x4)"),
        ("type: mlp, hidden: [8]", "type: sklearn, estimator: sklearn.svm.SVC", "names a scikit-learn estimator"),
        ("type: mlp, hidden: [8]", "type: python, target: mine:build", "mine.py:5: ValueError: no"),
    ],
)
def test_an_experiment_that_is_not_the_weights(cli: Cli, iris: Path, old: str, new: str, message: str) -> None:
    Path("mine.py").write_text(
        "import torch\nclass Mine(torch.nn.Module):\n    layers = None\n    def forward(self, inputs):\n"
        "        raise ValueError('no')\ndef build():\n    module = Mine()\n"
        "    module.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))\n"
        "    return module\n"
    )
    iris.write_text(IRIS.replace(old, new))
    result = cli("inspect", "bare.pt", "--experiment", iris)
    assert result.code == 2
    assert message in result.err
    assert result.out == ""


@pytest.mark.slow
def test_what_cannot_be_measured(cli: Cli, iris: Path, quick: Path, brief: None) -> None:
    assert cli("train", quick, "--quiet", "--out", "run").code == 0
    wine = ("--set", "data.type=wine", "--quiet", "--out", "wine")
    assert cli("train", quick, *wine).code == 0
    svc = iris.with_name("svc.yaml")
    svc.write_text("data: {type: iris}\nmodel: {type: sklearn, estimator: sklearn.svm.SVC}\n")
    assert cli("train", svc, "--quiet", "--out", "svc").code == 0
    for words, message in (
        (("bare.pt", "--measure"), "--experiment FILE"),
        (("bare.pt", "--experiment", "absent.yaml"), "absent.yaml"),
        (("run/model.pt", "--baseline", "absent.pt"), "absent.pt does not exist"),
        (("run/model.pt", "--baseline", "bare.pt"), "bare.pt does not say which model"),
        (("run/model.pt", "--baseline", "wine/model.pt"), "takes the same inputs"),
        (("svc/model.pt", "--measure"), "scikit-learn estimator"),
        (("run/model.pt", "--baseline", "svc/model.pt"), "scikit-learn estimator"),
    ):
        result = cli("inspect", *words)
        assert (result.code, result.out) == (2, "")
        assert message in result.err
