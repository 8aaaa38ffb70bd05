"""One flipped bit anywhere in a model.pt is told, or changes nothing of what is read."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from modelopt_cli.core.errors import InputError, RefusedError
from modelopt_cli.core.strategy import Named
from modelopt_cli.models.architectures import Architecture, Shapes
from modelopt_cli.models.files import checkpoints
from modelopt_cli.models.files.archives import read_pickle
from modelopt_cli.models.files.checkpoints import Checkpoint


def saved(path: Path, section: dict[str, Any], model: Any = None) -> Path:
    architecture = Named("models").parse(section)
    assert isinstance(architecture, Architecture)
    shapes = Shapes(inputs=(4,), outputs=3, task="classification")
    preprocessing = {"mean": [0.5, 1.5, 2.5, 3.5], "scale": [1.0, 2.0, 3.0, 4.0]}
    built = architecture.build(shapes, 0) if model is None else model
    checkpoints.save(path, Checkpoint(built, architecture, shapes, preprocessing, ("a", "b", "c"), "classification"))
    return path


def network(path: Path) -> Path:
    return saved(path, {"type": "mlp", "hidden": [4]})


def estimator(path: Path) -> Path:
    fitted = LogisticRegression().fit(np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3)
    return saved(path, {"type": "sklearn", "estimator": "sklearn.linear_model.LogisticRegression"}, fitted)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other)


@pytest.mark.slow
@pytest.mark.parametrize("make", [network, estimator])
def test_a_flipped_bit_is_told_or_changes_nothing(tmp_path: Path, make: Any) -> None:
    raw = make(tmp_path / "m.pt").read_bytes()
    content = read_pickle(tmp_path / "m.pt")
    generator = random.Random(0)
    noticed = 0
    for position in [*range(0, len(raw), max(1, len(raw) // 500)), *range(len(raw) - 150, len(raw))]:
        flipped = bytearray(raw)
        flipped[position] ^= 1 << generator.randrange(8)
        (tmp_path / "f.pt").write_bytes(flipped)
        try:
            again = read_pickle(tmp_path / "f.pt")
        except (InputError, RefusedError):
            noticed += 1
        else:
            assert same(content, again), f"byte {position} of {len(raw)}"
    assert noticed > 300


@pytest.mark.parametrize("make", [network, estimator])
def test_what_is_damaged_is_named(tmp_path: Path, make: Any) -> None:
    raw = make(tmp_path / "m.pt").read_bytes()
    state = read_pickle(tmp_path / "m.pt")["state"]
    weights = next(iter(state.values())) if isinstance(state, dict) else state
    flipped = bytearray(raw)
    flipped[raw.index(weights.numpy().tobytes()) + 3] ^= 0x40
    (tmp_path / "f.pt").write_bytes(flipped)
    for read in (checkpoints.load, read_pickle):
        with pytest.raises(
            InputError, match=r"is damaged: its record \S+/data/\d+ is not what its checksum says"
        ) as error:
            read(tmp_path / "f.pt")
        assert error.value.exit_code == 2


def test_large_records_are_added_up_in_pieces(tmp_path: Path) -> None:
    weights = torch.arange(3_000_001, dtype=torch.float32)
    torch.save({"w": weights, "v": weights[:10].clone()}, tmp_path / "m.pt")
    assert torch.equal(read_pickle(tmp_path / "m.pt")["w"], weights)
    raw = bytearray((tmp_path / "m.pt").read_bytes())
    for position in (raw.index(weights.numpy().tobytes()), len(raw) // 2, len(raw) - 4000):
        raw[position] ^= 1
        (tmp_path / "f.pt").write_bytes(raw)
        with pytest.raises(InputError, match="not what its checksum says"):
            read_pickle(tmp_path / "f.pt")
        raw[position] ^= 1


def test_an_archive_without_checksums_is_read(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.ones(3)}, tmp_path / "m.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    assert torch.equal(read_pickle(tmp_path / "m.pt")["w"], torch.ones(3))


def test_trusted_files_are_checked_too(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(300, 2), tmp_path / "m.pt")
    raw = bytearray((tmp_path / "m.pt").read_bytes())
    assert isinstance(read_pickle(tmp_path / "m.pt", trust=True), torch.nn.Linear)
    raw[len(raw) // 2] ^= 4
    (tmp_path / "f.pt").write_bytes(raw)
    with pytest.raises(InputError, match="not what its checksum says"):
        read_pickle(tmp_path / "f.pt", trust=True)
