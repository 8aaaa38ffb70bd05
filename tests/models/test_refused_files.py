"""Files that would run code, or that ask for memory which they do not hold: refused before anything is allocated."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modelopt_cli.core.errors import InputError, RefusedError
from modelopt_cli.models.files import checkpoints
from modelopt_cli.models.files.archives import read_pickle
from modelopt_cli.models.files.state_files import open_state


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def refused(path: Path, match: str) -> None:
    """Refused by every way in, with exit code 5, and without taking memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (open_state, checkpoints.load, read_pickle):
        with pytest.raises(RefusedError, match=match) as caught:
            read(path)
        assert caught.value.exit_code == 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, "posix.system"), (eval, "eval"), (exec, "exec"), (torch.hub.load, "torch.hub.load")],
)
def test_code_is_named_and_not_run(tmp_path: Path, zipped: bool, function: Any, name: str) -> None:
    content = {"weight": torch.ones(2), "x": Call(function, f"open({str(tmp_path / 'ran')!r}, 'w')")}
    torch.save(content, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    refused(tmp_path / "m.pt", rf"would run code when read \(it asks for \S*{name}\)")
    assert not (tmp_path / "ran").exists()


def test_a_plain_pickle_of_os_system(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    refused(tmp_path / "m.pt", r"it asks for os\.system")


def test_a_whole_module_is_named(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "m.pt")
    refused(tmp_path / "m.pt", r"a whole module.*torch\.nn\.modules\.linear\.Linear.*state_dict\(\)")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", [None, "state_dict"])
@pytest.mark.parametrize(
    "bomb",
    [torch.ones(1).expand(10**6, 10**6), torch.ones(20_001).as_strided((10_001, 10_001), (1, 1))],
)
def test_tensors_larger_than_their_storage(tmp_path: Path, zipped: bool, key: str | None, bomb: torch.Tensor) -> None:
    content: Any = {"a": torch.ones(2, 2), "bomb": bomb}
    torch.save(content if key is None else {key: content}, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    refused(tmp_path / "m.pt", "asks for memory that it does not hold")


@pytest.mark.parametrize("zipped", [True, False])
def test_views_and_ties_are_fine(tmp_path: Path, zipped: bool) -> None:
    whole = torch.randn(6, 8)
    content = {"whole": whole, "part": whole[1:3, ::2], "turned": whole.t(), "tied": whole, "none": torch.ones(0, 5)}
    content |= {"sparse": torch.eye(4).to_sparse(), "parameter": nn.Parameter(torch.ones(2)), "number": torch.tensor(1)}
    torch.save(content, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    opened = open_state(tmp_path / "m.pt").tensors
    assert list(opened) == list(content)
    assert torch.equal(opened["part"], content["part"])


def rewritten(path: Path, old: bytes, new: bytes) -> None:
    """The archive with another pickle."""
    before = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(before) as archive, zipfile.ZipFile(path, "w") as out:
        for entry in archive.infolist():
            data = archive.read(entry)
            out.writestr(entry.filename, data.replace(old, new) if entry.filename.endswith("data.pkl") else data)


def test_a_storage_that_claims_more_than_its_entry(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"w": torch.ones(77)}, path)
    rewritten(path, b"K\x4d", b"J\x00\x00\x00\x7f")  # the 77s: of the storage, and of the shape
    refused(path, "asks for memory that it does not hold")


@pytest.mark.parametrize("shape", [(10**5, 10**5), (10**12,)])
def test_absurd_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    storage = torch.ones(3).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    stride = tuple([1] * len(shape))
    call = Call(torch._utils._rebuild_tensor_v2, typed, 0, shape, stride, False, {})
    for zipped in (True, False):
        torch.save({"w": call}, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
        refused(tmp_path / "m.pt", "asks for memory that it does not hold")


@pytest.mark.parametrize("function", [bytearray, torch.Tensor, torch.FloatTensor, torch.UntypedStorage])
def test_calls_that_only_take_memory(tmp_path: Path, function: Any) -> None:
    torch.save({"w": torch.ones(1), "x": Call(function, 10**11)}, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", "asks for memory that it does not hold")


def test_entries_that_inflate(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("m/data/0", bytes(50_000_000))
    refused(path, "its entries unpack to 50,")


def test_a_storage_of_the_older_format_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"w": torch.ones(77)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"K\x4d", b"J\x00\x00\x00\x7f"))
    refused(path, "asks for memory that it does not hold")


def test_the_older_format_truncated_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"w": torch.ones(10_000)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for share in (0.001, 0.1, 0.5, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError):
            open_state(path)


def test_tensors_without_values(tmp_path: Path) -> None:
    torch.save({"w": torch.empty(10**6, 10**6, device="meta")}, tmp_path / "m.pt")
    with pytest.raises(InputError, match="without values"):
        open_state(tmp_path / "m.pt")


def safetensors(path: Path, header: Any, data: int) -> Path:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))
    return path


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "rule"),
    [
        ({"a": entry([10**6, 10**6], 0, 16)}, "asks for memory that it does not hold"),
        ({"a": entry([2], 0, 8), "b": entry([3], 4, 16)}, "overlap"),
        ({"a": entry([10**9], 0, 4 * 10**9)}, "claims 4,000,"),
    ],
)
def test_safetensors_that_overclaim(tmp_path: Path, header: Any, rule: str) -> None:
    with pytest.raises(RefusedError, match=rule) as caught:
        open_state(safetensors(tmp_path / "m.safetensors", header, 16))
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry([4], 0, 16), "b": entry([1], 20, 24)},  # a gap
        {"a": entry([4], 0, 16), "b": entry([1], 16, 20)},  # truncated
        {"a": entry([2], 0, 16)},  # more bytes than values
        {"a": entry([2], 0, 8)},  # more bytes than the header says
        {"a": entry([-4], 0, 16)},
        {"a": entry([4], 16, 0)},
        {"a": {"dtype": "F32"}},
        [1, 2],
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_damaged_safetensors(tmp_path: Path, header: Any) -> None:
    with pytest.raises(InputError, match="truncated or damaged"):
        open_state(safetensors(tmp_path / "m.safetensors", header, 16))


def test_strange_but_sound_safetensors(tmp_path: Path) -> None:
    header = {"odd": entry([3], 0, 3, "U8"), "a": entry([2, 1], 3, 11), "x": entry([9], 11, 16, "F4"),
              "none": entry([0, 4], 16, 16), "__metadata__": {"by": "me"}}  # fmt: skip
    path = safetensors(tmp_path / "m.safetensors", header, 16)
    file = open_state(path)
    assert file.tensors["a"].tolist() == [[0.0], [0.0]], "at an odd place"
    assert file.tensors["x"].shape == (5,), "a dtype that torch has not is bytes"
    file.save(tmp_path / "o.safetensors", {}, lambda name, tensor: [tensor])
    assert (tmp_path / "o.safetensors").read_bytes() == path.read_bytes()
