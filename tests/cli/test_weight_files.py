"""Files of weights as people have them: named where they are something else, chosen by key, with wrappers' names."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.support.cli import Cli

EXPERIMENT = """\
version: 1
data: {type: digits, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: python, target: "net:make"}
pruning: {amount: 0.5}
"""
CODE = "from torch import nn\ndef make(): return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))\n"


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


@pytest.fixture
def several(tmp_path: Path) -> Path:
    content = {"generator": network().state_dict(), "discriminator": network().state_dict(), "epoch": 3}
    torch.save(content, tmp_path / "gan.pt")
    return tmp_path / "gan.pt"


def test_a_key_chooses(cli: Cli, several: Path) -> None:
    result = cli("prune", several, "--amount", "0.5")
    assert result.code == 2
    assert "choose one with --key, e.g. --key generator" in result.err
    result = cli("prune", several, "--amount", "0.5", "--key", "discriminator")
    assert result.code == 0, result.err
    saved = torch.load(several.with_name("gan.pruned.pt"))
    assert not saved["discriminator"]["0.weight"].all()
    assert saved["generator"]["0.weight"].all()
    assert saved["epoch"] == 3
    assert cli("inspect", several, "--key", "generator").code == 0


def test_an_unknown_key_lists_them(cli: Cli, several: Path, tmp_path: Path) -> None:
    for command in (("prune", several, "--amount", "0.5"), ("inspect", several)):
        result = cli(*command, "--key", "generater")
        assert result.code == 2
        assert "generator, discriminator. Did you mean 'generator'?" in result.err
    save_file({"w": torch.ones(2)}, tmp_path / "m.safetensors")
    assert cli("inspect", tmp_path / "m.safetensors", "--key", "w").code == 2


def scripted(path: Path) -> None:
    torch.jit.script(network()).save(str(path))


def bytes_of(raw: bytes) -> Any:
    return lambda path: path.write_bytes(raw)


def program(path: Path) -> None:
    torch.export.save(torch.export.export(network(), (torch.ones(1, 64),)), str(path))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("m.pt", scripted, "TorchScript"),
        ("m.pt", program, "torch.export"),
        ("m.onnx", bytes_of(b"\x08\x08\x12\x07pytorch\x1a\x051.9.0" + bytes(300)), "ONNX"),
        ("m.bin", bytes_of(b"\x08\x08\x12\x07pytorch\x1a\x051.9.0" + bytes(300)), "ONNX"),
        ("m.gguf", bytes_of(b"GGUF\x03\0\0\0" + bytes(300)), "GGUF"),
        ("m.h5", bytes_of(b"\x89HDF\r\n\x1a\n" + bytes(300)), "HDF5"),
        ("m.param", bytes_of(b"7767517\n3 3\nInput in 0 1 in\n"), "ncnn"),
        ("m.ckpt", bytes_of(b"\x81\xa6params\x81\xa1w\xc7" + bytes(300)), "MessagePack"),
        ("m.pt", bytes_of(b"<!DOCTYPE html><html><body>Not found</body></html>"), "web page"),
        ("m.pt", bytes_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n"), "Git LFS"),
        ("m.pt", bytes_of(b"\x1f\x8b" + bytes(300)), "gzip"),
        ("m.pt", bytes_of(b"this is just some text of somebody"), "text"),
        ("m.pkl", lambda path: path.write_bytes(pickle.dumps({"epoch": 1})), "none that torch.save wrote"),
        ("m.safetensors.index.json", bytes_of(b'{"weight_map": {"a": "x.safetensors"}}'), "name its folder"),
        ("m.npz", lambda path: np.savez(path, a=np.ones(3)), "numpy"),
        ("m.npy", lambda path: np.save(path, np.ones(30)), "numpy"),
    ],
)
def test_other_kinds_of_files_are_named(cli: Cli, tmp_path: Path, name: str, write: Any, message: str) -> None:
    write(tmp_path / name)
    result = cli("prune", tmp_path / name, "--amount", "0.5")
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err


def test_safetensors_go_by_their_first_bytes(cli: Cli, tmp_path: Path) -> None:
    save_file({"a.weight": torch.randn(4, 4), "b.weight": torch.randn(4, 4)}, tmp_path / "m.bin")
    assert cli("prune", tmp_path / "m.bin", "--amount", "0.5").code == 0
    torch.save({"a.weight": torch.randn(4, 4), "b.weight": torch.randn(4, 4)}, tmp_path / "n.safetensors")
    assert cli("inspect", tmp_path / "n.safetensors").code == 0


class Options:
    """Somebody's class."""


def test_the_remedies_for_code_are_named_and_there(cli: Cli, tmp_path: Path) -> None:
    torch.save({"state_dict": network().state_dict(), "options": Options()}, tmp_path / "m.pt")
    result = cli("inspect", tmp_path / "m.pt")
    assert result.code == 5
    assert "--trust-pickle" in result.err
    assert cli("inspect", tmp_path / "m.pt", "--trust-pickle").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module.model.", "model._orig_mod."])
def test_wrappers_names(cli: Cli, tmp_path: Path, prefix: str) -> None:
    (tmp_path / "net.py").write_text(CODE)
    (tmp_path / "e.yaml").write_text(EXPERIMENT)
    torch.save({prefix + name: item for name, item in network().state_dict().items()}, tmp_path / "m.pt")
    result = cli("prune", "m.pt", "--experiment", "e.yaml", "--amount", "0.5")
    assert result.code == 0, result.err
    saved = torch.load(tmp_path / "m.pruned.pt")
    weights = saved[f"{prefix}0.weight"]
    assert 0.4 < float((weights == 0).float().mean()) < 0.6


def test_a_masked_file_with_its_experiment(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(CODE)
    (tmp_path / "e.yaml").write_text(EXPERIMENT)
    state = dict(network().state_dict())
    state["0.weight_orig"] = state.pop("0.weight")
    state["0.weight_mask"] = (state["0.weight_orig"].abs() > 0.02).float()
    torch.save(state, tmp_path / "m.pt")
    result = cli("prune", "m.pt", "--experiment", "e.yaml", "--amount", "0.5")
    assert result.code == 0, result.err
    saved = torch.load(tmp_path / "m.pruned.pt")
    assert set(saved) == set(state)
    kept = saved["0.weight_mask"] != 0
    assert bool((state["0.weight_mask"][kept] == 1).all()), "what was masked stays so"
    assert 0.4 < float(kept.float().mean()) < 0.6
    assert torch.equal(saved["0.weight_orig"][kept], state["0.weight_orig"][kept])


def header(path: Path, text: str, data: int = 0) -> Path:
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + bytes(data))
    return path


EMPTY = '{"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}'


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"dtype": "F32", "shape": [0, 1000000000000000000], "data_offsets": [0, 0]}}',
        '{"a": {"dtype": "F32", "shape": [0, 9223372036854775808], "data_offsets": [0, 0]}}',
        '{"a": {"dtype": "F32", "shape": [0, 99999999999999999999999999], "data_offsets": [0, 0]}}',
        '{{"a": {{"dtype": "F32", "shape": [{}], "data_offsets": [0, 0]}}}}'.format(", ".join(["0"] * 100)),
        '{"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}, "a": {"dtype": "F32", "shape": [0], '
        '"data_offsets": [0, 0]}}',
        "{{{}}}".format(
            ", ".join(f'"{i}": {{"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}' for i in range(100_001))
        ),
        '{"a": {"dtype": ["F32"], "shape": [0], "data_offsets": [0, 0]}}',
        '{"a": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 0]}}',
        '{{"a": [{}]}}'.format(", ".join(["[]"] * 2_100_000)),
    ],
)
def test_odd_headers(cli: Cli, tmp_path: Path, text: str) -> None:
    path = header(tmp_path / "m.safetensors", text)
    for command in (("inspect", path), ("prune", path, "--amount", "0.5")):
        result = cli(*command)
        assert result.code in (2, 5)
        assert result.err.count("\n") == 1


@pytest.mark.parametrize("shard", ["a\\u0000b", "../x.safetensors", "/etc/passwd", "..", "", "\\ud800", "x" * 5000])
def test_odd_indexes(cli: Cli, tmp_path: Path, shard: str) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(f'{{"weight_map": {{"a": "{shard}"}}}}')
    for command in (("inspect", folder), ("prune", folder, "--amount", "0.5")):
        result = cli(*command)
        assert result.code == 2
        assert "internal" not in result.err
