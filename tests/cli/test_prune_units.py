"""`modelopt prune --structure neurons` of a file of weights: a smaller model and its program, or one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from modelopt_cli.data.preprocessing import Preprocessing
from modelopt_cli.models.files import checkpoints
from modelopt_cli.workflows import prune_file_with_experiment
from tests.support.cli import Cli

DIGITS = """\
version: 1
data: {type: digits, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [8, 4]}
training: {epochs: 1}
"""
UNITS = ("--experiment", "digits.yaml", "--structure", "neurons")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A bare state dict, beside the experiment file that says what it is of."""
    (tmp_path / "digits.yaml").write_text(DIGITS)
    layers = torch.nn.Sequential(
        torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 10)
    )
    path = tmp_path / "m.pt"
    torch.save({f"layers.{name}": tensor for name, tensor in layers.state_dict().items()}, path)
    return path


@pytest.mark.slow
def test_the_smaller_model_and_its_program_compute_the_same(cli: Cli, weights: Path) -> None:
    result = cli("prune", weights, *UNITS, "--amount", "0.5")
    assert result.code == 0, result.err
    saved = checkpoints.load("m.pruned.pt")
    model = saved.model
    dense = torch.load(weights, weights_only=True)
    assert sum(map(torch.Tensor.numel, model.parameters())) < sum(map(torch.Tensor.numel, dense.values()))
    program = torch.export.load("m.pruned.pt2").module()
    raw = 8 + 4 * torch.randn(3, 64, dtype=torch.float64)  # as the data have them: preprocessing is in the program
    prepared = Preprocessing.from_plain(saved.preprocessing).apply(raw.numpy())
    logits, probabilities = program(raw)
    assert torch.allclose(logits, model(torch.from_numpy(prepared)), atol=1e-5)
    assert torch.allclose(probabilities, logits.softmax(1))


@pytest.mark.slow
@pytest.mark.parametrize("there", ["m.pruned.pt", "m.pruned.pt2"])
def test_neither_the_model_nor_its_program_is_overwritten_unasked(
    cli: Cli, weights: Path, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(there).write_text("mine")
    with monkeypatch.context() as patched:
        patched.setattr(prune_file_with_experiment, "open_state", None)  # any work would fail
        result = cli("prune", weights, *UNITS, "--amount", "0.5")
    assert result.code == 2
    assert f"{there} exists already and is not overwritten" in result.err
    assert Path(there).read_text() == "mine"
    assert sorted(path.name for path in weights.parent.iterdir()) == sorted([there, "digits.yaml", "m.pt"])
    assert cli("prune", weights, *UNITS, "--amount", "0.5", "--dry-run").code == 0
    assert Path(there).read_text() == "mine"
    assert cli("prune", weights, *UNITS, "--amount", "0.5", "--force").code == 0
    assert Path("m.pruned.pt").stat().st_size > 100
    assert Path("m.pruned.pt2").stat().st_size > 100


@pytest.mark.parametrize("out", ["small.pt2", "small.safetensors", "small"])
def test_a_smaller_model_is_called_one(cli: Cli, weights: Path, out: str) -> None:
    result = cli("prune", weights, *UNITS, "--amount", "0.5", "--out", out)
    assert result.code == 2
    assert "let it end in .pt" in result.err
    assert not Path(out).exists()


@pytest.mark.slow
def test_a_model_of_other_data_is_told_before_any_work(cli: Cli, weights: Path) -> None:
    assert cli("prune", weights, *UNITS, "--amount", "0.5").code == 0
    Path("wine.yaml").write_text(DIGITS.replace("digits", "wine"))
    for structure in ("neurons", "weights"):
        words = ("--experiment", "wine.yaml", "--structure", structure, "--amount", "0.5")
        result = cli("prune", "m.pruned.pt", *words)
        assert result.code == 2
        assert "m.pruned.pt was trained for inputs (64,), but the data has inputs (13,)" in result.err
        assert not Path("m.pruned.pruned.pt").exists()


@pytest.mark.slow
def test_a_model_of_an_unknown_kind_is_no_damaged_one(cli: Cli, weights: Path) -> None:
    assert cli("prune", weights, *UNITS, "--amount", "0.5").code == 0
    content = torch.load("m.pruned.pt", weights_only=True)
    torch.save({**content, "architecture": {**content["architecture"], "type": "mpl"}}, "odd.pt")
    words = {
        "prune": ("--experiment", "digits.yaml", "--amount", "0.5"),
        "inspect": ("--groups",),
        "export": ("o.pt2",),
    }
    for command, more in words.items():
        result = cli(command, "odd.pt", *more)
        assert result.code == 2
        assert "odd.pt holds a model that cannot be built here: unknown model type 'mpl'. Did you mean" in result.err
        assert "damaged" not in result.err
    assert not {"o.pt2", "odd.pruned.pt"} & {path.name for path in Path().iterdir()}


UNCAPTURED = """\
from torch import nn


class Branching(nn.Sequential):
    def forward(self, inputs):
        hidden = self[0](inputs)
        if hidden.sum() > 0:
            hidden = -hidden
        return self[1](hidden)


def build(**_):
    return Branching(nn.Linear(64, 8), nn.Linear(8, 10))
"""


def test_a_model_that_is_no_graph_is_explained_and_its_folder_can_be_used_again(cli: Cli, weights: Path) -> None:
    Path("branching.py").write_text(UNCAPTURED)
    model = ("--set", "model={type: python, target: 'branching:build'}")
    result = cli("prune", "digits.yaml", *model, "--structure", "neurons", "--amount", "0.5", "--out", "run")
    assert result.code == 2
    assert "branching.py:7: `if hidden.sum() > 0:`" in result.err
    assert "operator aten.gt" in result.err
    assert "pruning.structure: weights needs no graph" in result.err
    assert cli("prune", "digits.yaml", *model, "--structure", "weights", "--amount", "0.5", "--out", "run").code == 0


@pytest.mark.slow
def test_of_other_files_of_weights_a_model_is_made(cli: Cli, weights: Path) -> None:
    save_file(torch.load(weights, weights_only=True), "n.safetensors")
    assert cli("prune", "n.safetensors", *UNITS, "--amount", "0.5").code == 0
    assert checkpoints.load("n.pruned.pt").extra["slimming"]
