"""What trainers save beside the weights: read without running code, and written back as it was."""

from __future__ import annotations

import argparse
import datetime
import decimal
import pathlib
import types
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelopt_cli.core.errors import InputError, RefusedError
from modelopt_cli.models.files.archives import read_pickle
from modelopt_cli.models.files.state_files import open_state

VALUES: dict[str, Any] = {
    "best": np.float64(0.9),
    "half": np.float16(0.5),
    "whole": np.int64(7),
    "flag": np.bool_(True),
    "word": np.str_("word"),
    "complex": np.complex64(1 + 2j),
    "array": np.arange(6.0).reshape(2, 3),
    "order": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "words": np.array(["a", "bcd"]),
    "dtype": np.dtype(">i4"),
    "day": np.datetime64("2024-01-02"),
    "random": np.random.RandomState(0).get_state(),
    "options": argparse.Namespace(lr=0.1, layers=[1, 2], inner=argparse.Namespace(name="x")),
    "simple": types.SimpleNamespace(a=1),
    "counts": defaultdict(list, {"a": [1]}),
    "nothing": defaultdict(None, {"a": 1}),
    "deep": [(defaultdict(int, {"x": 2}), deque([1, 2], maxlen=5))],
    "queue": deque([1, deque([2])]),
    "counter": Counter("aab"),
    "ordered": OrderedDict(a=1),
    "size": torch.Size([2, 3]),
    "kind": torch.float16,
    "device": torch.device("cpu"),
    "path": pathlib.PurePosixPath("/a/b"),
    "windows": pathlib.PureWindowsPath("c:/x"),
    "time": datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
    "span": datetime.timedelta(seconds=3),
    "decimal": decimal.Decimal("1.5"),
    "frozen": frozenset([1, 2]),
    "set": {1, 2},
    "slice": slice(1, 2),
    "range": range(3),
    "version": torch.__version__,
    "type": float,
}


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray | np.generic):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and bool(one == other)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", VALUES)
def test_inert_values_stay(tmp_path: Path, name: str, zipped: bool) -> None:
    content = {"state_dict": {"w.weight": torch.ones(4, 4)}, "more": VALUES[name], "again": [VALUES[name]]}
    torch.save(content, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    file = open_state(tmp_path / "m.pt")
    assert list(file.tensors) == ["w.weight"]
    file.save(tmp_path / "o.pt", {}, lambda _, tensor: [tensor * 0.0])
    loaded = torch.load(tmp_path / "o.pt", weights_only=False)
    assert not loaded["state_dict"]["w.weight"].any()
    assert equal(VALUES[name], loaded["more"])
    assert equal(VALUES[name], loaded["again"][0])
    assert loaded["more"] is loaded["again"][0] or name in ("device", "kind"), "what is one object stays one"


class Setter:
    def __setstate__(self, state: Any) -> None:
        raise AssertionError("run")

    def __reduce__(self) -> Any:
        return (Setter, (), {"a": 1})


class Call:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


class Objects(Call):
    """Pickles as an array of a dtype."""


@pytest.mark.parametrize(
    "value",
    [
        Setter(),
        np.array([Setter(), 1], dtype=object),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        Call(bytes, (10**11,)),
        Call(np.dtype, ("O",)),
        Call(np.ndarray, ((10**6, 10**6),)),
        Call(str, ([1],)),
        Call(argparse.Namespace, ({},)),
        Call(argparse.ArgumentParser, ()),
        Call(np.zeros, (10**11,)),
        Call(defaultdict, (int, {}, {})),
        Call(defaultdict, (eval,)),
    ],
)
def test_what_is_not_inert_is_refused(tmp_path: Path, value: Any) -> None:
    torch.save({"w": torch.ones(2), "x": value}, tmp_path / "m.pt")
    with pytest.raises((RefusedError, InputError)):
        read_pickle(tmp_path / "m.pt")


def test_a_namespace_takes_names_only(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(b"")
    torch.save({"x": Call(argparse.Namespace, (), (None, {"__class__": 1}))}, path)
    with pytest.raises((RefusedError, InputError)):
        read_pickle(path)


def test_what_is_refused_names_the_remedies(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "x": Setter()}, tmp_path / "m.pt")
    with pytest.raises(RefusedError, match=r"asks for \S*Setter.*state_dict\(\).*--trust-pickle"):
        read_pickle(tmp_path / "m.pt")


def test_small_tensors_that_share_their_elements_are_read(tmp_path: Path) -> None:
    content = {"w": torch.ones(4, 4), "position": torch.ones(1).expand(8, 8), "row": torch.arange(4.0).expand(3, 4)}
    for zipped in (True, False):
        torch.save(content, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
        assert torch.equal(open_state(tmp_path / "m.pt").tensors["row"], content["row"])
    torch.save({str(i): torch.ones(1).expand(1000, 1000) for i in range(30)}, tmp_path / "m.pt")
    with pytest.raises(RefusedError, match="asks for memory that it does not hold"):
        open_state(tmp_path / "m.pt")
