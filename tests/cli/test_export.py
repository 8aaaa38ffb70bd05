"""`modelopt export`: what is written is compared first, is whole, and overwrites nothing unasked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.cli import Cli

EXPERIMENT = """\
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [16, 8]}
training: {epochs: 2, batch_size: 32, optimizer: {type: adam, lr: 0.01}}
device: cpu
"""
NEURONS = "pruning: {structure: {type: neurons, apply: APPLY}, importance: l2, amount: 0.5}\n"
WEIGHTS = "pruning: {amount: 0.7}\n"
MINE = """\
import torch
from torch import nn
class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    def forward(self, inputs):
        hidden = self.layers(inputs)
        CODE
        return hidden
"""


def experiment(text: str) -> Path:
    path = Path("experiment.yaml")
    path.write_text(text)
    return path


@pytest.fixture
def mine(tmp_path: Path) -> Callable[[str], Path]:
    """A bare state dict of the user's own module, with this line in its `forward`, and its experiment file."""

    def write(code: str) -> Path:
        (tmp_path / "mine.py").write_text(MINE.replace("CODE", code))
        layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        torch.save({f"layers.{name}": item for name, item in layers.state_dict().items()}, tmp_path / "bare.pt")
        path = tmp_path / "mine.yaml"
        path.write_text("data: {type: iris}\nmodel: {type: python, target: mine:Mine}\n")
        return path

    return write


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
@pytest.mark.parametrize(
    "pruning", ["", WEIGHTS, NEURONS.replace("APPLY", "module"), NEURONS.replace("APPLY", "graph")]
)
def test_a_model_of_modelopt(cli: Cli, pruning: str, suffix: str) -> None:
    from modelopt_cli.models.files import checkpoints

    command = "prune" if pruning else "train"
    assert cli(command, experiment(EXPERIMENT + pruning), "--quiet", "--out", "run").code == 0
    report = json.loads(cli("export", "run/model.pt", f"m.{suffix}", "--bare", "--json").out)
    saved = checkpoints.load("run/model.pt")
    assert report["artefacts"] == {"exported": f"m.{suffix}"}
    assert report["tables"]["checks"]["rows"][0][0] != report["tables"]["checks"]["rows"][1][0]
    assert 0 <= report["metrics"]["export.error"] < 1e-5
    assert report["metrics"]["model.parameters"] == sum(each.numel() for each in saved.model.parameters())
    assert report["details"]["label_names"] == ["setosa", "versicolor", "virginica"]
    if suffix == "onnx":
        return
    state = torch.export.load("m.pt2").module().state_dict()
    assert {name: item.tolist() for name, item in state.items()} == {
        name: item.tolist() for name, item in saved.model.state_dict().items()
    }
    if pruning == WEIGHTS:
        zeros = sum(int((item == 0).sum()) for item in state.values())
        assert zeros >= 0.7 * sum(item.numel() for name, item in state.items() if "weight" in name) - 50


def test_what_the_terminal_shows(cli: Cli, mine: Callable[[str], Path]) -> None:
    shown = cli("export", "bare.pt", "m.pt2", "--experiment", mine("pass"), "--bare")
    assert shown.code == 0
    for part in ("67 parameters", "(B, 4) float32", "torch.export 2.", "batches of 1 and 7", "exported     m.pt2"):
        assert part in shown.out
    assert len(shown.out.splitlines()) == 4
    assert cli("export", "bare.pt", "n.pt2", "--experiment", "mine.yaml", "--quiet").out == "exported     n.pt2\n"


def test_nothing_is_overwritten_unasked(cli: Cli, mine: Callable[[str], Path]) -> None:
    words = ("export", "bare.pt", "m.pt2", "--experiment", mine("pass"), "--bare")
    Path("m.pt2").write_text("mine")
    refused = cli(*words)
    assert (refused.code, refused.out) == (2, "")
    assert "m.pt2 exists" in refused.err
    assert Path("m.pt2").read_text() == "mine"
    assert cli(*words, "--force").code == 0
    assert torch.export.load("m.pt2").module()(torch.zeros(2, 4)).shape == (2, 3)


@pytest.mark.parametrize(
    ("code", "exit_code", "message"),
    [
        ("hidden = hidden + torch.rand_like(hidden)", 1, "draw random numbers"),
        ("hidden = hidden if hidden.sum() > 0 else -hidden", 2, "mine.py:9: `hidden = hidden if hidden.sum() > 0"),
        ("raise ValueError('no')", 2, "mine.py:9: ValueError: no"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(
    cli: Cli, mine: Callable[[str], Path], code: str, exit_code: int, message: str
) -> None:
    result = cli("export", "bare.pt", "m.pt2", "--experiment", mine(code))
    assert (result.code, result.out) == (exit_code, "")
    assert message in result.err
    assert "pruning.structure" not in result.err
    assert not [path for path in Path().iterdir() if "m.pt2" in path.name]


def test_a_fixed_batch_size_is_told(cli: Cli, mine: Callable[[str], Path]) -> None:
    result = cli("export", "bare.pt", "m.pt2", "--experiment", mine("hidden = hidden.reshape(4, 3)"))
    assert result.code == 0
    assert "(4, 4) float64" in result.out
    assert "m.pt2 takes batches of 4 samples" in result.out


@pytest.mark.slow
def test_mistakes(cli: Cli, quick: Path) -> None:
    svc = Path("svc.yaml")
    svc.write_text("data: {type: iris}\nmodel: {type: sklearn, estimator: sklearn.svm.SVC}\n")
    assert cli("train", svc, "--quiet", "--out", "svc").code == 0
    assert cli("train", quick, "--quiet", "--out", "run").code == 0
    torch.save(torch.nn.Linear(4, 3).state_dict(), "bare.pt")
    for words, code, message in (
        (("svc/model.pt", "m.onnx"), 2, "scikit-learn estimator"),
        (("bare.pt", "m.pt2"), 2, "--experiment FILE"),
        (("absent.pt", "m.pt2"), 2, "absent.pt does not exist"),
        (("run/model.pt", "m.pt"), 2, "ends in .pt2 or .onnx"),
        (("run/model.pt", "nowhere/m.pt2"), 6, "nowhere/m.pt2 cannot be written"),
    ):
        result = cli("export", *words)
        assert (result.code, result.out) == (code, "")
        assert message in result.err
