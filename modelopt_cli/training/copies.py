"""Copies of states, and random numbers that leave torch's own generators as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def copied(value: Any, device: str | None = None) -> Any:
    """`value` with every tensor in it copied, to `device` where given."""
    if isinstance(value, torch.Tensor):
        moved = value.detach().to(device or value.device)
        return moved.clone() if moved.data_ptr() == value.data_ptr() else moved
    if isinstance(value, dict):
        return {key: copied(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(item, device) for item in value)
    return value


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed what dropout draws from: `torch.manual_seed` for the devices in use alone, in a hundredth of its time."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@contextmanager
def own_random_numbers(device: torch.device) -> Iterator[None]:
    """Leave torch's global generators as they were found."""
    devices = (
        [device.index if device.index is not None else torch.cuda.current_device()] if device.type == "cuda" else []
    )
    with torch.random.fork_rng(devices=devices):
        yield
