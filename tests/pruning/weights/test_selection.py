"""What is left alone by its name, shape or kind, and weights that lie in a file as values and mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune
from torch.nn.utils.parametrizations import weight_norm

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.files.masked_pairs import MaskedPairs
from modelopt_cli.models.measure import count, zeros
from modelopt_cli.pruning.allocations.global_ import Global
from modelopt_cli.pruning.allocations.threshold import Threshold
from modelopt_cli.pruning.importances.magnitude import Magnitude
from modelopt_cli.pruning.structures.nm import Nm
from modelopt_cli.pruning.structures.weights import Weights
from modelopt_cli.pruning.weights.files import FilePruning
from modelopt_cli.pruning.weights.selection import choose, select
from modelopt_cli.workflows import prune_file
from modelopt_cli.workflows.inspect import weights as inspect_file

HALF = FilePruning(Magnitude(), Weights(), Global(), 0.5)
GAIN, TOKEN = "one value an output (a gain or scale)", "its name says token"


@pytest.mark.parametrize(
    ("name", "shape", "rule"),
    [
        ("0.parametrizations.weight.original0", (16, 1, 1), GAIN),
        ("0.weight_g", (16, 1), GAIN),
        ("blocks.0.layer_scale", (32, 1, 1), GAIN),
        ("blocks.0.gamma", (1, 32, 1, 1), GAIN),
        ("blocks.0.scale", (1, 32), GAIN),
        ("dw.weight", (32, 1, 1, 1), GAIN),
        ("cls_token", (1, 1, 32), TOKEN),
        ("vit.reg_token", (1, 4, 32), TOKEN),
        ("registers", (4, 32), TOKEN),
        ("decoder.query_tokens", (1, 4, 32), TOKEN),
        ("mixer.A_log", (64, 16), "its name says constant"),
        ("att.time_decay", (8, 64), "its name says constant"),
        ("logits.weight", (8, 4), None),
        ("stft.forward_basis_buffer", (16, 1, 16), "its name says constant"),
        ("mlp_tokens.fc1.weight", (8, 4), None),
        ("attention.query.weight", (8, 4), None),
        ("head.weight", (1, 32), None),
        ("original1", (1, 32), None),
        ("deep.weight", (8, 1, 3, 3), None),
    ],
)
def test_gains_scales_and_tokens(name: str, shape: tuple[int, ...], rule: str | None) -> None:
    tensors = {name: torch.randn(shape), "a.weight": torch.randn(4, 4)}
    assert select(tensors, bare=False).spared.get(name) == rule
    assert name in select(tensors, include=[name]).taken, "what is asked for is taken"
    assert name in select(tensors, everything=True).taken


def test_weight_normed_networks_keep_their_gains(tmp_path: Path) -> None:
    network = nn.Sequential(weight_norm(nn.Conv1d(4, 16, 3)), nn.ReLU(), weight_norm(nn.Conv1d(16, 16, 3)))
    torch.save(network.state_dict(), tmp_path / "m.pt")
    report = prune_file.run(tmp_path / "m.pt", HALF, tmp_path / "o.pt")
    loaded = torch.load(tmp_path / "o.pt")
    gains = [name for name in loaded if name.endswith("original0")]
    assert len(gains) == 2
    assert all(loaded[name].all() for name in gains)
    assert report.details["spared_names"][GAIN] == gains


pytestmark = pytest.mark.filterwarnings(
    "ignore:Sparse CSR", "ignore:torch.quantize_per", "ignore:The PyTorch API of nested"
)


def quantized() -> dict[str, Tensor]:
    values = torch.tensor([[0.0, 0.5, -0.5, 0.0], [1.0, 0.0, 0.25, 2.0]])
    scales, points = torch.tensor([0.1, 0.2]).double(), torch.tensor([3, 5])
    return {
        "qint8": torch.quantize_per_tensor(values, 0.05, 3, torch.qint8),
        "quint8": torch.quantize_per_tensor(values, 0.05, 100, torch.quint8),
        "qint32": torch.quantize_per_tensor(values, 0.05, 0, torch.qint32),
        "channels": torch.quantize_per_channel(values, scales, points, 0, torch.qint8),
        "complex64": torch.tensor([[0j, 1j], [1 + 0j, 0j]]),
        "bool": torch.tensor([[True, False]]),
        "uint16": torch.tensor([[0, 7]], dtype=torch.uint16),
        "uint64": torch.tensor([[0, 7]], dtype=torch.uint64),
        "float8_e4m3fn": torch.tensor([[0.0, 1.0]]).to(torch.float8_e4m3fn),
        "int64": torch.tensor(0),
        "sparse_coo": torch.eye(3).to_sparse(),
        "sparse_csr": torch.eye(3).to_sparse_csr(),
    }


def test_tensors_of_every_kind_are_listed_spared_and_kept(tmp_path: Path) -> None:
    content = {**quantized(), "a.weight": torch.randn(8, 8), "b.weight": torch.randn(8, 8)}
    torch.save(content, tmp_path / "m.pt")
    rows = {row[0]: row for row in inspect_file.run(tmp_path / "m.pt").tables["layers"].rows}
    assert rows["channels"][2] == "qint8"
    expected = {"qint8": 3, "quint8": 3, "qint32": 3, "channels": 3, "complex64": 2, "bool": 1, "uint16": 1}
    assert {name: rows[name][4] for name in expected} == expected
    assert (rows["uint64"][4], rows["float8_e4m3fn"][4], rows["sparse_coo"][4]) == (1, 1, 0)
    report = prune_file.run(tmp_path / "m.pt", HALF, tmp_path / "o.pt")
    spared = {row[0]: row[6] for row in report.tables["layers"].rows}
    for name in quantized():
        kind = "qint8" if name == "channels" else name
        assert spared[name] == f"not dense floating-point numbers ({kind})"
    loaded = torch.load(tmp_path / "o.pt")
    assert torch.equal(loaded["channels"].int_repr(), content["channels"].int_repr())
    assert zeros(loaded["a.weight"]) == 32


def test_nested_tensors_are_listed_and_spared(tmp_path: Path) -> None:
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    torch.save({"n": nested, "a.weight": torch.randn(8, 8), "b.weight": torch.randn(8, 8)}, tmp_path / "m.pt")
    rows = {row[0]: row for row in inspect_file.run(tmp_path / "m.pt").tables["layers"].rows}
    assert rows["n"][1] == "nested"
    report = prune_file.run(tmp_path / "m.pt", HALF, dry_run=True)
    assert report.details["spared"]["not dense floating-point numbers (nested)"] == 1


def test_what_cannot_be_pruned_is_not_told_to_take_all() -> None:
    tensors = {"w": torch.ones(4, 4).to(torch.float8_e4m3fn), "b": torch.ones(4), "n": torch.tensor(1)}
    with pytest.raises(UsageError, match=r"float8_e4m3fn: convert them first, e\.g\. tensor\.to\(torch\.bfloat16\)"):
        choose(tensors, lambda _: None, where="m.pt")
    with pytest.raises(UsageError, match="quantized"):
        choose({"w": quantized()["qint8"]}, lambda _: None, where="m.pt")
    with pytest.raises(UsageError, match="include tensors, or take all"):
        choose({"wte": torch.ones(4, 4)}, lambda _: None, where="m.pt")


def test_empty_tensors_are_spared(tmp_path: Path) -> None:
    save_file({"a": torch.ones(0, 4), "b": torch.randn(4, 4), "c": torch.randn(4, 4)}, tmp_path / "m.safetensors")
    report = prune_file.run(tmp_path / "m.safetensors", HALF, dry_run=True)
    assert report.details["spared_names"]["holds no values"] == ["a"]


def masked_network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    for position in (0, 2):
        torch_prune.l1_unstructured(network[position], "weight", 0.2)
    return network


def effective(state: dict[str, Tensor], layer: str) -> Tensor:
    return state[f"{layer}.weight_orig"] * state[f"{layer}.weight_mask"].to(torch.float32)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint8, torch.int64])
@pytest.mark.parametrize("prefix", ["", "model.module."])
def test_the_mask_takes_what_goes(tmp_path: Path, suffix: str, dtype: torch.dtype, prefix: str) -> None:
    state = {prefix + name: item for name, item in masked_network().state_dict().items()}
    state |= {name: item.to(dtype) for name, item in state.items() if name.endswith("_mask")}
    path, out = tmp_path / f"m{suffix}", tmp_path / f"o{suffix}"
    torch.save(state, path) if suffix == ".pt" else save_file(state, path)
    report = prune_file.run(path, FilePruning(Magnitude(), Weights(), Global(), 0.7), out)
    loaded = torch.load(out) if suffix == ".pt" else load_file(out)
    assert list(loaded) == list(state) if suffix == ".pt" else set(loaded) == set(state)
    left, sizes = 0, 0
    for layer in (f"{prefix}0", f"{prefix}2"):
        assert torch.equal(loaded[f"{layer}.weight_orig"], state[f"{layer}.weight_orig"]), "values stay"
        assert loaded[f"{layer}.weight_mask"].dtype == dtype
        before, after = effective(state, layer), effective(loaded, layer)
        assert torch.equal(after[after != 0], before[after != 0])
        left, sizes = left + int(after.count_nonzero()), sizes + after.numel()
    assert left == sizes - round(0.7 * sizes), "of the product, what was zeroed before counted"
    kept = torch.cat([effective(loaded, f"{prefix}{layer}").reshape(-1) for layer in (0, 2)]).abs()
    zeroed = torch.cat([effective(state, f"{prefix}{layer}").reshape(-1) for layer in (0, 2)]).abs()[kept == 0]
    assert zeroed.max() <= kept[kept > 0].min(), "ranked by the product"
    rows: dict[Any, Any] = {row[0]: row for row in report.tables["layers"].rows}
    first = rows[f"{prefix}0.weight_orig"]
    assert first[3] == int((effective(state, f"{prefix}0") == 0).sum())
    assert first[5] == pytest.approx(float((effective(loaded, f"{prefix}0") == 0).float().mean()))
    assert "mask" in rows[f"{prefix}0.weight_mask"][6]
    looked = inspect_file.run(out)
    assert looked.metrics["model.sparsity"] == pytest.approx(report.metrics["model.sparsity"])
    assert {row[0]: row[4] for row in looked.tables["layers"].rows}[f"{prefix}0.weight_orig"] == first[3] + first[4]
    assert looked.metrics["model.parameters"] == 512 + 1024 + 128 + 32 + 32 + 4


def test_the_file_still_loads_where_the_hooks_are(tmp_path: Path) -> None:
    network = masked_network()
    torch.save(network.state_dict(), tmp_path / "m.pt")
    prune_file.run(tmp_path / "m.pt", FilePruning(Magnitude(), Nm(n=2, m=4), None), tmp_path / "o.pt")
    network.load_state_dict(torch.load(tmp_path / "o.pt"))
    network(torch.ones(1, 16))
    torch_prune.remove(network[2], "weight")
    groups = network[2].weight.view(-1, 4) != 0  # type: ignore[operator]
    assert int(groups.sum(1).max()) <= 2, "2:4 of the product"


def test_a_threshold_in_pieces(tmp_path: Path) -> None:
    values, mask = torch.randn(600, 600), (torch.rand(600, 600) > 0.3).float()
    torch.save({"w_orig": values, "w_mask": mask, "last.weight": torch.randn(4, 4)}, tmp_path / "m.pt")
    prune_file.run(tmp_path / "m.pt", FilePruning(Magnitude(), Weights(), Threshold(), 0.5), tmp_path / "o.pt")
    loaded = torch.load(tmp_path / "o.pt")
    assert torch.equal(loaded["w_mask"], mask * ((values * mask).abs() >= 0.5))


def test_pairs_that_are_none(tmp_path: Path) -> None:
    tensors = {
        "a_orig": torch.ones(4, 4),
        "b_mask": torch.ones(4, 4),
        "c_orig": torch.ones(4, 4),
        "c_mask": torch.ones(4),
        "d.weight": torch.ones(4, 4),
    }
    pairs = MaskedPairs(tensors)
    assert not pairs.mask_of
    assert count(pairs.values())["model.parameters"] == 68
    torch.save(tensors, tmp_path / "m.pt")
    report = prune_file.run(tmp_path / "m.pt", HALF, dry_run=True)
    spared = {row[0]: row[6] for row in report.tables["layers"].rows}
    assert spared["a_orig"] is None
    assert spared["c_orig"] == "its mask has another shape (4)"
