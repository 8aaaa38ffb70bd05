"""What cuts of single groups did to a network, kept for whoever prunes the same network again.

Several trials of a search prune one dense model, and so do several tries for a budget of time. What a cut does depends
on the network's tensors, the samples, the compensation and the units that go, and on nothing else of an experiment, so
it is kept by a digest of these: in memory for this process, and in a folder for other processes and later ones.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from modelopt_cli.core.errors import StorageError
from modelopt_cli.results.files import write_whole

_VERSION = "1"  # of what is measured, and of the files
_NETWORKS = 16  # that are kept in memory
_memory: OrderedDict[str, dict[str, float]] = OrderedDict()


def forget() -> None:
    """Forget what this process knows."""
    _memory.clear()


def digest(tensors: Mapping[str, Tensor], samples: Sequence[Tensor], about: Iterable[object]) -> str:
    """Of a network's tensors by name, the samples that are looked at, and what else decides what a cut does."""
    hashed = hashlib.blake2b(_VERSION.encode(), digest_size=16)
    for each in about:
        hashed.update(f"{each}\0".encode())
    for name, tensor in [
        *sorted(tensors.items()),
        *((f"sample {number}", each) for number, each in enumerate(samples)),
    ]:
        hashed.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        hashed.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()


class CutStore:
    """Of one network on the same samples. `folder`: where it is kept for other processes; None: in memory alone."""

    def __init__(self, network: str, folder: Path | None = None) -> None:
        """`network`: its digest."""
        self._known = _memory.setdefault(network, {})
        _memory.move_to_end(network)
        while len(_memory) > _NETWORKS:
            _memory.popitem(last=False)
        self._file = None if folder is None else Path(folder, f"cuts-{network}.json")
        self._changed = False
        if self._file is not None:
            self._known |= _read(self._file)

    def get(self, what: str, group: str, stays: Tensor) -> float | None:
        """What is known of cutting this group down to the units that stay (n,); None: nothing."""
        return self._known.get(_key(what, group, stays))

    def put(self, what: str, group: str, stays: Tensor, value: float) -> None:
        """Keep it."""
        self._known[_key(what, group, stays)] = value
        self._changed = True

    def save(self) -> None:
        """Write what is new, beside what other processes have written meanwhile; where that cannot be, it is lost."""
        if self._file is None or not self._changed:
            return
        self._known |= {**_read(self._file), **self._known}
        content = json.dumps(self._known).encode()
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._file, lambda stream: stream.write(content), durable=False)
            self._changed = False
        except (OSError, StorageError):
            return  # it only saves time


def _key(what: str, group: str, stays: Tensor) -> str:
    units = hashlib.blake2b(f"{what}\0{group}\0".encode(), digest_size=16)
    units.update(stays.to(torch.uint8).contiguous().numpy().tobytes())
    return units.hexdigest()


def _read(file: Path) -> dict[str, float]:
    """What the file holds; nothing where it is not there, or is damaged."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {
        key: float(value)
        for key, value in content.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    }
