"""Weights in every container: what is written is what was read, but for the values that were changed."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from modelopt_cli.core.errors import InputError, RefusedError, UsageError
from modelopt_cli.models.files.sizes import sizes
from modelopt_cli.models.files.state_files import PickleFile, SafetensorsFile, ShardedFolder, beside, open_state


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "b.weight": torch.randn(4, 8, generator=generator),
        "a.weight": torch.randn(8, 4, generator=generator).to(torch.bfloat16),
        "a.bias": torch.randn(8, generator=generator).half(),
        "steps": torch.tensor(7),
    }


def load(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def halve(path: Path, out: Path) -> None:
    def change(name: str, tensor: torch.Tensor) -> Iterator[torch.Tensor]:
        if name == "b.weight":
            yield from (tensor.view(-1)[:5] * 0.5, tensor.view(-1)[5:] * 0.5)
        else:
            yield tensor

    open_state(path).save(out, {"importance": "none"}, change)


def same(name: str, tensor: torch.Tensor) -> list[torch.Tensor]:
    return [tensor]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".th"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", [None, "state_dict", "model", "my_weights"])
def test_torch_files_keep_everything_else(tmp_path: Path, suffix: str, zipped: bool, key: str | None) -> None:
    path, out = tmp_path / f"m{suffix}", tmp_path / f"o{suffix}"
    content: Any = OrderedDict(state())
    if key is not None:
        content = {"epoch": 3, key: content, "optimizer": {"lr": 0.1, "betas": (0.9, 0.99)}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    before = path.read_bytes()
    halve(path, out)
    assert path.read_bytes() == before
    assert zipfile.is_zipfile(out) == zipped
    loaded = load(out)
    inner = loaded if key is None else loaded[key]
    assert type(inner) is OrderedDict
    assert list(inner) == list(state())
    for name, tensor in state().items():
        assert inner[name].dtype == tensor.dtype
        torch.testing.assert_close(inner[name], tensor * 0.5 if name == "b.weight" else tensor, rtol=0, atol=0)
    if key is not None:
        assert list(loaded) == list(content)
        assert loaded["epoch"] == 3
        assert loaded["optimizer"] == content["optimizer"]


def test_tied_storages_stay_tied(tmp_path: Path) -> None:
    tied = torch.ones(3, 3)
    torch.save({"a": tied, "b": tied, "row": tied[0]}, tmp_path / "m.pt")
    file = open_state(tmp_path / "m.pt")
    file.save(tmp_path / "o.pt", {}, lambda name, tensor: [torch.zeros(9) if name == "a" else tensor])
    loaded = load(tmp_path / "o.pt")
    assert loaded["a"].data_ptr() == loaded["b"].data_ptr() == loaded["row"].data_ptr()
    assert not loaded["b"].any()


def test_state_dict_metadata_stays(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    torch.save(module.state_dict(), tmp_path / "m.pt")
    open_state(tmp_path / "m.pt").save(tmp_path / "o.pt", {}, same)
    assert load(tmp_path / "o.pt")._metadata == module.state_dict()._metadata  # type: ignore[attr-defined]


def test_safetensors_keep_metadata(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "m.safetensors", {"format": "pt", "by": "me"})
    halve(tmp_path / "m.safetensors", tmp_path / "o.safetensors")
    opened = open_state(tmp_path / "o.safetensors")
    assert isinstance(opened, SafetensorsFile)
    with safe_open(tmp_path / "o.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "by": "me"}
    torch.testing.assert_close(opened.tensors["b.weight"], state()["b.weight"] * 0.5)
    assert opened.tensors["a.weight"].dtype == torch.bfloat16


def sharded(folder: Path) -> Path:
    folder.mkdir()
    parts = {"one.safetensors": ["b.weight", "steps"], "two.safetensors": ["a.weight", "a.bias"]}
    for name, keys in parts.items():
        save_file({key: state()[key] for key in keys}, folder / name, {"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": {key: name for name, keys in parts.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text("{}")
    return folder


def test_sharded_folders(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "m")
    halve(folder, tmp_path / "o")
    assert isinstance(open_state(tmp_path / "o"), ShardedFolder)
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == sorted(p.name for p in folder.iterdir())
    torch.testing.assert_close(load_file(tmp_path / "o" / "one.safetensors")["b.weight"], state()["b.weight"] * 0.5)
    assert beside(folder, "pruned") == tmp_path / "m.pruned"


def test_an_index_cannot_lead_outside_its_folder(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "m")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../secret.safetensors"}}')
    with pytest.raises(InputError, match="lies outside its folder"):
        open_state(folder)


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run!",))


def test_code_is_refused_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for zipped in (True, False):
        torch.save({"weight": torch.ones(2), "x": Evil()}, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(RefusedError, match="would run code"):
            open_state(tmp_path / "m.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(RefusedError, match="would run code"):
        open_state(tmp_path / "module.pt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("m.pt", b"", "is empty"),
        ("m.pt", b"hello there", "it is truncated"),
        ("m.safetensors", b"hello there", "cannot be read as safetensors"),
        ("m.pt", pickle.dumps([1, 2], protocol=2), "a pickle, but none that torch.save wrote"),
    ],
)
def test_damage(tmp_path: Path, name: str, content: bytes, rule: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rule) as caught:
        open_state(tmp_path / name)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
def test_truncated_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    torch.save(state(), path) if name.endswith("pt") else save_file(state(), path)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError):
            open_state(path)


def test_what_holds_no_weights(tmp_path: Path) -> None:
    for content in ({"epoch": 1}, {"a": {"x": torch.ones(1)}, "b": {"y": torch.ones(1)}}, [torch.ones(1)]):
        torch.save(content, tmp_path / "m.pt")
        with pytest.raises(InputError, match="state dict"):
            open_state(tmp_path / "m.pt")
    with pytest.raises(InputError, match="does not exist"):
        open_state(tmp_path / "absent.pt")
    with pytest.raises(InputError, match="is a folder without"):
        open_state(tmp_path)


def test_other_copies_of_the_weights_are_named(tmp_path: Path) -> None:
    torch.save({"model": state(), "ema": state()}, tmp_path / "m.pt")
    file = open_state(tmp_path / "m.pt")
    assert isinstance(file, PickleFile)
    assert file.note == "the weights under 'model'; the tensors under ema stay as they are"


def test_sizes_show_what_zeros_are_worth(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(100_000)}, tmp_path / "zeros.pt")
    torch.save({"w": torch.randn(100_000)}, tmp_path / "noise.pt")
    plain, packed = sizes(tmp_path / "zeros.pt")
    assert plain == (tmp_path / "zeros.pt").stat().st_size
    assert packed < plain / 50
    assert sizes(tmp_path / "noise.pt")[1] > 300_000


def test_an_estimator_has_no_weights(tmp_path: Path) -> None:
    torch.save({"modelopt": 1, "framework": "sklearn", "state": torch.ones(3)}, tmp_path / "m.pt")
    with pytest.raises(UsageError, match="scikit-learn estimator"):
        open_state(tmp_path / "m.pt")
