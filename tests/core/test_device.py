"""Devices are named as torch names them; what this machine lacks is refused with the remedy."""

from __future__ import annotations

import pytest
import torch

from modelopt_cli.core.device import check_device, choose
from modelopt_cli.core.errors import UsageError


def pretend(monkeypatch: pytest.MonkeyPatch, count: int, built: str | None = "12.8") -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.version, "cuda", built)


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_names_that_are_taken(name: str) -> None:
    assert check_device(name) == name


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:a", " cpu"])
def test_names_that_are_not(name: str) -> None:
    with pytest.raises(ValueError, match="is no device; write auto, cpu, cuda or cuda:N"):
        check_device(name)
    with pytest.raises(UsageError, match=r"device: .* is no device"):
        choose(name)


@pytest.mark.parametrize(("count", "chosen"), [(0, "cpu"), (1, "cuda"), (4, "cuda")])
def test_auto_is_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch, count: int, chosen: str) -> None:
    pretend(monkeypatch, count)
    assert choose("auto") == chosen
    assert choose("cpu") == "cpu"


def test_a_device_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 2)
    assert [choose(name) for name in ("cuda", "cuda:0", "cuda:1")] == ["cuda", "cuda:0", "cuda:1"]


@pytest.mark.parametrize(("count", "has"), [(1, "cuda:0 only"), (2, "cuda:0 to cuda:1")])
def test_a_device_too_many_names_those_that_there_are(monkeypatch: pytest.MonkeyPatch, count: int, has: str) -> None:
    pretend(monkeypatch, count)
    with pytest.raises(UsageError, match=f"this machine has {has}; set device: cuda or device: auto"):
        choose(f"cuda:{count}")


@pytest.mark.parametrize(("built", "why"), [(None, "was built without CUDA"), ("12.8", "torch finds no CUDA device")])
def test_without_a_device_it_says_why(monkeypatch: pytest.MonkeyPatch, built: str | None, why: str) -> None:
    pretend(monkeypatch, 0, built)
    with pytest.raises(UsageError, match=f"{why}.*; set device: auto or device: cpu"):
        choose("cuda")
