"""`modelopt prune` on files of weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from modelopt_cli.models.files.packed import unpack_masks
from modelopt_cli.pruning.weights.selection import select
from tests.support.cli import Cli


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


def load(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def test_threshold_zeroes_what_is_below_and_nothing_else(cli: Cli, weights: Path) -> None:
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


def test_every_rule_is_told(cli: Cli, weights: Path) -> None:
    out = cli("prune", weights, "--threshold", "0.1", "--dry-run").out
    for rule in ("its name says embedding", "its name says norm", "its name says position", "the last matrix", "fewer"):
        assert rule in out
    assert "nothing was written" in out
    assert not (weights.parent / "model.pruned.pt").exists()


def test_amount_is_exact_and_reported(cli: Cli, weights: Path) -> None:
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


def test_layer_scope_prunes_each_layer_alike(cli: Cli, weights: Path) -> None:
    cli("prune", weights, "--amount", "0.25", "--scope", "layer", "--include", "layers.*.weight", "--out", "o.pt")
    for i in range(3):
        assert int((load(Path("o.pt"))[f"layers.{i}.weight"] == 0).sum()) == 16


def test_pattern(cli: Cli, weights: Path) -> None:
    cli("prune", weights, "--pattern", "2:4", "--exclude", "layers.1.*", "--out", "o.pt")
    pruned = load(Path("o.pt"))
    assert ((pruned["layers.0.weight"].view(8, 2, 4) != 0).sum(-1) == 2).all()
    assert torch.equal(pruned["layers.1.weight"], load(weights)["layers.1.weight"])


def test_gate(cli: Cli, weights: Path) -> None:
    assert cli("prune", weights, "--amount", "0.5", "--gate", "model.sparsity >= 0.9").code == 3
    assert (weights.parent / "model.pruned.pt").exists(), "the result is kept"
    assert cli("prune", weights, "--amount", "0", "--out", "p.pt", "--gate", "model.sparsity >= 0").code == 0


def test_nothing_is_overwritten(cli: Cli, weights: Path) -> None:
    Path("o.pt").write_text("mine")
    result = cli("prune", weights, "--threshold", "0.1", "--out", "o.pt")
    assert result.code == 2
    assert "is not overwritten" in result.err
    assert Path("o.pt").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ([], "exactly one of --threshold, --amount, --pattern and --budget; found none"),
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
def test_bad_options(cli: Cli, weights: Path, options: list[str], rule: str) -> None:
    result = cli("prune", weights, *options)
    assert result.code == 2
    assert rule in result.err
    assert "Traceback" not in result.err
    assert not (weights.parent / "model.pruned.pt").exists()


def test_force_overwrites_but_never_the_input(cli: Cli, weights: Path) -> None:
    before = weights.read_bytes()
    Path("o.pt").write_text("mine")
    assert cli("prune", weights, "--threshold", "0.1", "--out", "o.pt", "--force").code == 0
    assert set(load(Path("o.pt"))) == set(load(weights))
    Path("link.pt").symlink_to(weights)
    for out in (weights, "link.pt", "./model.pt"):
        result = cli("prune", weights, "--threshold", "0.1", "--out", out, "--force")
        assert result.code == 2
        assert "is the input, which is never overwritten" in result.err
    assert weights.read_bytes() == before
    Path("folder").mkdir()
    assert cli("prune", weights, "--threshold", "0.1", "--out", "folder", "--force").code == 2


def test_a_folder_is_overwritten_whole(cli: Cli) -> None:
    Path("m").mkdir()
    save_file({"a.weight": torch.randn(4, 4), "b.weight": torch.randn(4, 4)}, "m/one.safetensors")
    index = {"weight_map": {"a.weight": "one.safetensors", "b.weight": "one.safetensors"}}
    Path("m/model.safetensors.index.json").write_text(json.dumps(index))
    assert cli("prune", "m", "--amount", "0.5").code == 0
    Path("m.pruned/left over").touch()
    assert cli("prune", "m", "--amount", "0.5").code == 2
    assert cli("prune", "m", "--amount", "0.5", "--out", "m/inside").code == 2
    assert cli("prune", "m", "--amount", "0.25", "--force").code == 0
    assert sorted(path.name for path in Path("m.pruned").iterdir()) == sorted(path.name for path in Path("m").iterdir())
    assert int((load_file("m.pruned/one.safetensors")["a.weight"] == 0).sum()) == 4
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["m", "m.pruned"], "nothing is left behind"


def test_keep_at_least(cli: Cli, weights: Path) -> None:
    options = ["--include", "layers.*.weight", "--threshold", "9", "--keep-at-least", "0.1"]
    assert cli("prune", weights, *options).code == 0
    after = load(weights.parent / "model.pruned.pt")
    assert [int(after[f"layers.{i}.weight"].count_nonzero()) for i in range(3)] == [7, 7, 7]


def test_values_that_are_not_finite_are_told_and_stay(cli: Cli) -> None:
    state = {name: torch.randn(4, 4) for name in ("a.weight", "b.weight", "c.weight", "d.weight")}
    state["b.weight"][1, 1], state["c.weight"][0, 0] = float("nan"), float("inf")
    save_file(state, "m.safetensors")
    result = cli("prune", "m.safetensors", "--amount", "0.5", "--all")
    assert result.code == 0
    assert "NaN or infinite values in: b.weight, c.weight" in result.out
    after = load_file("m.pruned.safetensors")
    for name in ("b.weight", "c.weight"):
        assert torch.equal(after[name], state[name]) or torch.equal(after[name].isnan(), state[name].isnan())
        assert after[name].count_nonzero() == 16
    assert sum(int((after[name] == 0).sum()) for name in ("a.weight", "d.weight")) == 16


def test_safetensors_in_pieces_are_as_in_one(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {f"{i}.weight": torch.randn(12, 8) for i in range(3)} | {"half.weight": torch.randn(8, 8).half()}
    save_file(state, "m.safetensors")
    for options in (["--threshold", "0.5"], ["--amount", "0.6"], ["--pattern", "2:4"]):
        monkeypatch.setattr("modelopt_cli.pruning.weights.files._PIECE", 1 << 17)
        assert cli("prune", "m.safetensors", *options, "--all", "--force", "--out", "whole.safetensors").code == 0
        monkeypatch.setattr("modelopt_cli.pruning.weights.files._PIECE", 10)
        assert cli("prune", "m.safetensors", *options, "--all", "--force", "--out", "pieces.safetensors").code == 0
        assert Path("whole.safetensors").read_bytes() == Path("pieces.safetensors").read_bytes()


def test_the_size_of_a_large_file_is_an_estimate(cli: Cli, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelopt_cli.models.files.sizes._SMALL", 100)  # private: so that small files are sampled
    assert ", estimated" in cli("prune", weights, "--threshold", "0.1").out
    exact = cli("prune", weights, "--threshold", "0.1", "--force", "--measure-compressed")
    assert "estimated" not in exact.out
    gated = cli("prune", weights, "--threshold", "0.1", "--force", "--gate", "model.compressed_bytes <= 1e6")
    assert "estimated" not in gated.out


def test_bad_files(cli: Cli, tmp_path: Path) -> None:
    cases = {
        "absent.pt": (None, 2, "does not exist"),
        "empty.pt": (b"", 2, "is empty"),
        "text.pt": (b"no model", 2, "truncated, damaged, or no model at all"),
        "text.safetensors": (b"no model at all", 2, "truncated or damaged"),
        "os.pt": (b"cos\nsystem\n(S'touch ran'\ntR.", 5, "it asks for os.system"),
    }
    for name, (content, code, rule) in cases.items():
        if content is not None:
            Path(name).write_bytes(content)
        result = cli("prune", name, "--threshold", "0.1")
        assert (result.code, rule in result.err, "Traceback" in result.err) == (code, True, False), result.err
    assert not Path("ran").exists()
    torch.save({"weight": torch.randn(99, 99)}, "cut.pt")
    Path("cut.pt").write_bytes(Path("cut.pt").read_bytes()[:9000])
    assert cli("prune", "cut.pt", "--threshold", "0.1").code == 2
    torch.save({"bomb": torch.ones(1, 1).expand(10**6, 10**6)}, "bomb.pt")
    result = cli("prune", "bomb.pt", "--threshold", "0.1")
    assert result.code == 5
    assert "asks for memory that it does not hold" in result.err
    torch.save({"whole": torch.ones(4, 4, dtype=torch.int64)}, "whole.pt")
    result = cli("prune", "whole.pt", "--threshold", "0.1")
    assert result.code == 2
    assert "not dense floating-point numbers" in result.err


MODULE = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
"""


@pytest.mark.slow
def test_a_whole_module_needs_trust(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("their_net.py").write_text(MODULE)
    script = "import torch, their_net; torch.save(their_net.Net(), 'module.pt')"
    subprocess.run([sys.executable, "-c", script], check=True)
    result = cli("prune", "module.pt", "--amount", "0.5")
    assert result.code == 5
    assert "it asks for their_net.Net" in result.err
    result = cli("prune", "module.pt", "--amount", "0.5", "--all", "--trust-pickle")
    assert result.code == 0
    assert "--trust-pickle: whatever code the file names was run" in result.out
    monkeypatch.syspath_prepend(".")
    module = torch.load("module.pruned.pt", weights_only=False)
    assert type(module).__name__ == "Net"
    assert sum(int((tensor == 0).sum()) for tensor in module.state_dict().values()) == 72
    sys.modules.pop("their_net", None)
    Path("their_net.py").unlink()
    result = cli("prune", "module.pt", "--amount", "0.5", "--trust-pickle", "--force")
    assert result.code == 2
    assert "needs code that is not here" in result.err


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
from modelopt_cli.cli.main import main
sys.argv = ["modelopt", "prune", sys.argv[1], "--threshold", "0.1", "--all"]
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["m.pt", "m.safetensors", "m"])
def test_no_space_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    state = {"a": torch.randn(99, 99), "b": torch.randn(99, 99)}
    if name == "m":
        (tmp_path / "m").mkdir()
        save_file(state, tmp_path / "m" / "one.safetensors")
        index = {"weight_map": dict.fromkeys(state, "one.safetensors")}
        (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps(index))
    elif name == "m.pt":
        torch.save(state, tmp_path / name)
    else:
        save_file(state, tmp_path / name)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FULL, name], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 6, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_all_zeroed_is_told(cli: Cli, weights: Path) -> None:
    result = cli("prune", weights, "--threshold", "9")
    assert result.code == 0
    assert "nothing is left of: layers.0.weight" in result.out


def test_a_model_of_modelopt_stays_one(cli: Cli, quick: Path) -> None:
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


def test_ties_and_strange_tensors() -> None:
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
    selection = select(tensors)
    assert selection.taken == ["a.weight", "b.weight", "c.weight"]
    assert selection.spared["tied.weight"] == "tied to embed.weight, which is spared"
    assert selection.spared["spread"] == "its elements share memory"
    assert selection.spared["nan"] == "holds values that are not finite"
    assert selection.spared["sparse"] == "not dense floating-point numbers (sparse_coo)"
    assert selection.spared["whole"] == "not dense floating-point numbers (int64)"
    everything = select(tensors, everything=True)
    assert everything.taken == ["embed.weight", "a.weight", "again", "b.weight", "c.weight", "last.weight"]


def test_the_output_layer_goes_by_its_name_where_files_are_sorted() -> None:
    tensors = {name: torch.randn(2, 2) for name in ("lm_head.weight", "model.1.weight", "model.2.weight")}
    assert select(tensors).taken == ["model.1.weight", "model.2.weight"]
    assert select(tensors).spared == {"lm_head.weight": "the last matrix (the output layer, most likely)"}


def test_a_last_matrix_that_is_tied_to_another_spares_both() -> None:
    tensors = {"a": torch.randn(2, 2), "b": torch.randn(2, 2), "c": torch.randn(2, 2)}
    tensors["out"] = tensors["a"]
    assert select(tensors).taken == ["b", "c"]
