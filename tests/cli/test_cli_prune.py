"""`modelopt prune` on files of weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from modelopt_cli.models.packed import unpack_masks
from modelopt_cli.pruning.selection import select


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed_tokens = nn.Embedding(20, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])
        self.norm = nn.LayerNorm((2, 4))
        self.pos = nn.Parameter(torch.randn(5, 8))
        self.head = nn.Linear(8, 4)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(Tiny().state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def load(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)  # type: ignore[no-any-return]


def test_threshold_zeroes_what_is_below_and_nothing_else(cli, weights):
    result = cli("prune", weights, "--threshold", "0.1")
    assert result.code == 0
    before, after = load(weights), load(weights.parent / "model.pruned.pt")
    assert list(after) == list(before)
    taken = {f"layers.{i}.weight" for i in range(3)}
    for name, tensor in before.items():
        small = (tensor.abs() < 0.1) if name in taken else torch.zeros_like(tensor, dtype=torch.bool)
        assert torch.equal(after[name], tensor.masked_fill(small, 0.0)), name
        assert (name in taken) == bool(small.any())
    Tiny().load_state_dict(after)


def test_every_rule_is_told(cli, weights):
    out = cli("prune", weights, "--threshold", "0.1", "--dry-run").out
    for rule in ("its name says embedding", "its name says norm", "its name says position", "the last matrix", "fewer"):
        assert rule in out
    assert "nothing was written" in out
    assert not (weights.parent / "model.pruned.pt").exists()


def test_amount_is_exact_and_reported(cli, weights):
    result = cli("prune", weights, "--amount", "0.5", "--all", "--json")
    report = json.loads(result.out)
    count = sum(tensor.numel() for tensor in load(weights).values())
    zeros = sum(int((tensor == 0).sum()) for tensor in load(weights.parent / "model.pruned.pt").values())
    assert zeros == round(0.5 * count) or zeros == round(0.5 * count) + 8, "LayerNorm's bias is zero already"
    assert report["metrics"]["model.nonzero"] == count - zeros
    assert (
        sum(row[4] for row in report["tables"]["layers"]["rows"])
        == zeros - report["details"]["before"]["model.parameters"] + report["details"]["before"]["model.nonzero"]
    )


def test_layer_scope_prunes_each_layer_alike(cli, weights):
    cli("prune", weights, "--amount", "0.25", "--scope", "layer", "--include", "layers.*.weight", "--out", "o.pt")
    for i in range(3):
        assert int((load(Path("o.pt"))[f"layers.{i}.weight"] == 0).sum()) == 16


def test_pattern(cli, weights):
    cli("prune", weights, "--pattern", "2:4", "--exclude", "layers.1.*", "--out", "o.pt")
    found = load(Path("o.pt"))
    assert ((found["layers.0.weight"].view(8, 2, 4) != 0).sum(-1) == 2).all()
    assert torch.equal(found["layers.1.weight"], load(weights)["layers.1.weight"])


def test_gate(cli, weights):
    assert cli("prune", weights, "--amount", "0.5", "--gate", "model.sparsity >= 0.9").code == 3
    assert (weights.parent / "model.pruned.pt").exists(), "the result is kept"
    assert cli("prune", weights, "--amount", "0", "--out", "p.pt", "--gate", "model.sparsity >= 0").code == 0


def test_nothing_is_overwritten(cli, weights):
    Path("o.pt").write_text("mine")
    result = cli("prune", weights, "--threshold", "0.1", "--out", "o.pt")
    assert result.code == 2
    assert "is not overwritten" in result.err
    assert Path("o.pt").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ([], "exactly one of --threshold, --amount and --pattern; found none"),
        (["--threshold", "1", "--amount", "0.5"], "found --threshold and --amount"),
        (["--pattern", "4:2"], "n must be below m"),
        (["--pattern", "two"], "write N:M"),
        (["--pattern", "0:4"], "write N:M"),
        (["--amount", "1.5"], "--amount 1.5: must be a share from 0 to below 1"),
        (["--amount", "1.0"], "--amount 1: must be a share from 0 to below 1"),
        (["--amount", "-0.1"], "--amount -0.1: must be a share from 0 to below 1"),
        (["--amount", "nan"], "--amount nan"),
        (["--pattern", "5:4"], "n must be below m"),
        (["--amount", "0.5", "--keep-at-least", "1.5"], "--keep-at-least 1.5: must be a share"),
        (["--pattern", "2:4", "--keep-at-least", "0.1"], "--keep-at-least goes with --threshold or --amount"),
        (["--threshold", "-1"], "-1"),
        (["--threshold", "nan"], "nan"),
        (["--threshold", "0.1", "--include", "lyers.*"], "matches no tensor"),
        (["--threshold", "0.1", "--exclude", "*"], "nothing in"),
    ],
)
def test_bad_options(cli, weights, options, rule):
    result = cli("prune", weights, *options)
    assert result.code == 2
    assert rule in result.err
    assert "Traceback" not in result.err
    assert not (weights.parent / "model.pruned.pt").exists()


def test_bad_files(cli, tmp_path):
    assert cli("prune", "absent.pt", "--threshold", "0.1").code == 2
    torch.save(nn.Linear(2, 2), "module.pt")
    assert cli("prune", "module.pt", "--threshold", "0.1").code == 5
    Path("text.pt").write_text("no model")
    assert cli("prune", "text.pt", "--threshold", "0.1").code == 2


def test_all_zeroed_is_told(cli, weights):
    result = cli("prune", weights, "--threshold", "9")
    assert result.code == 0
    assert "nothing is left of: layers.0.weight" in result.out


def test_a_model_of_modelopt_stays_one(cli, quick):
    assert cli("train", quick, "--quiet", "--out", "run").code == 0
    assert cli("prune", "run/model.pt", "--amount", "0.5").code == 0
    content = load(Path("run/model.pruned.pt"))
    assert content["metrics"] == {}, "what was measured before no longer holds"
    assert content["extra"]["pruning"]["allocation"] == {"type": "global"}
    assert content["extra"]["pruning"]["target"] == 0.5
    masks = unpack_masks(content["extra"]["masks"], content["state"])
    assert set(masks) == {name for name, tensor in content["state"].items() if tensor.dim() == 2}
    assert sum(int((~mask).sum()) for mask in masks.values()) == round(0.5 * sum(m.numel() for m in masks.values()))
    assert all(not content["state"][name][~mask].any() for name, mask in masks.items())
    result = cli("evaluate", "run/model.pruned.pt", "--split", "validation", "--json")
    assert result.code == 0
    assert "validation.accuracy" in json.loads(result.out)["metrics"]


def test_ties_and_strange_tensors():
    tied = torch.randn(4, 4)
    tensors = {
        "embed.weight": tied,
        "tied.weight": tied,
        "a.weight": torch.randn(4, 4),
        "again": torch.randn(1),
        "spread": torch.randn(1, 4).expand(4, 4),
        "whole": torch.ones(2, 2, dtype=torch.int64),
        "nan": torch.full((2, 2), float("nan")),
        "sparse": torch.eye(3).to_sparse(),
        "b.weight": torch.randn(4, 4),
    }
    tensors["b_again.weight"] = tensors["b.weight"]
    tensors |= {"c.weight": torch.randn(4, 4), "last.weight": torch.randn(4, 4)}
    found = select(tensors)
    assert found.taken == ["a.weight", "b.weight", "c.weight"]
    assert found.spared["tied.weight"] == "tied to embed.weight, which is spared"
    assert found.spared["spread"] == "its elements share memory"
    assert found.spared["nan"] == "holds values that are not finite"
    assert found.spared["sparse"] == found.spared["whole"] == "not dense floating-point numbers"
    everything = select(tensors, everything=True)
    assert everything.taken == ["embed.weight", "a.weight", "again", "b.weight", "c.weight", "last.weight"]


def test_a_last_matrix_that_is_tied_to_another_spares_both():
    tensors = {"a": torch.randn(2, 2), "b": torch.randn(2, 2), "c": torch.randn(2, 2)}
    tensors["out"] = tensors["a"]
    assert select(tensors).taken == ["b", "c"]
