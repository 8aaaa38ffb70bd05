"""One .safetensors file, memory-mapped: tensors are read when they are used, and written one piece after another.

The header (its size, then JSON: name -> dtype, shape, place) is checked against the file before anything is read, and
copied as it is, so that the order of names and the metadata stay.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from modelopt_cli.core.errors import InputError, RefusedError
from modelopt_cli.results.files import write_whole

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Change = Callable[[str, "Tensor"], Iterable["Tensor"]]
"""From a tensor to the values to be written in its place, in pieces, in row-major order."""

LONGEST_JSON = 32_000_000  # bytes of a header or an index; the format's own limit is 100 MB
_MOST_TENSORS = 100_000  # in one file
_MOST_PARTS = 2_000_000  # objects and lists in a header, each of which takes 60 bytes or more
_MOST_AXES = 64  # of numpy's arrays
_LARGEST = 1 << 48  # numbers, were no axis empty: no memory holds more, and products beyond overflow
_WAITING = 4  # pieces that are made while others are written
_SYNC = 1 << 28  # bytes after which the disk is told to begin
_ABSURD = 1000  # times what the file holds: no truncated download
_DTYPES = {
    "BOOL": "bool",
    **{f"{kind}{bits}": f"{(kind == 'U' and 'uint') or 'int'}{bits}" for kind in "UI" for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "C64": "complex64",
}


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies: bytes `start` to `stop` of `memory`."""

    memory: mmap.mmap
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int

    def tensor(self) -> Tensor:
        """The tensor, in the mapped memory: nothing is read yet."""
        import torch

        if self.start == self.stop:
            return torch.empty(self.shape, dtype=self.dtype)
        count = self.stop - self.start
        values = torch.frombuffer(self.memory, dtype=torch.uint8, count=count, offset=self.start)
        return values.view(self.dtype).view(self.shape)


class Tensors(Mapping[str, "Tensor"]):
    """name -> tensor, made at each access."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries = entries

    def __getitem__(self, name: str) -> Tensor:
        return self.entries[name].tensor()

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class Mapped:
    """One file. `tensors` in the header's order. Raises InputError or, for a header that overclaims, RefusedError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as stream:
                self._size = os.fstat(stream.fileno()).st_size
                self._header = self._read_header(stream)
                # Private: what is written to a tensor by mistake never reaches the file.
                self._memory = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        except FileNotFoundError:
            raise InputError(f"{path} does not exist; the folder's index names it") from None
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror})") from None
        except ValueError as error:  # no name of a file: NUL, half a character
            raise InputError(f"{str(path)!r} cannot be read ({error})") from None
        self.tensors = Tensors(self._entries())

    def write(self, path: Path, change: Change) -> None:
        """The same file but for the changes, whole or not at all. Raises StorageError."""
        write_whole(path, lambda stream: _stream(stream, self._pieces(change)))

    def _pieces(self, change: Change) -> Iterator[memoryview]:
        yield memoryview(self._header)
        order = sorted(self.tensors.entries.items(), key=lambda item: (item[1].start, item[1].stop))
        for name, entry in order:
            written = 0
            for piece in change(name, entry.tensor()):
                yield (data := _bytes(piece))
                written += data.nbytes
            if written != entry.stop - entry.start:
                raise ValueError(f"{name} has {entry.stop - entry.start} bytes, but its change {written}")

    def _read_header(self, stream: IO[bytes]) -> bytes:
        length = int.from_bytes(stream.read(8), "little")
        if self._size < 8 or length > self._size - 8:
            raise self._damage(f"its header claims {length:,} bytes, in a file of {self._size:,}")
        if length > LONGEST_JSON:
            raise RefusedError(f"{self.path} has a header of {length:,} bytes, more than {LONGEST_JSON:,}: refused")
        stream.seek(0)
        return stream.read(8 + length)

    def _entries(self) -> dict[str, Entry]:
        try:
            listed = {name: value for name, value in self._listed().items() if name != "__metadata__"}
            if len(listed) > _MOST_TENSORS:
                raise RefusedError(f"{self.path} holds {len(listed):,} tensors, more than {_MOST_TENSORS:,}: refused")
            entries = {name: self._entry(name, value) for name, value in listed.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise self._damage("its header is no list of tensors") from None
        places = sorted((entry.start, entry.stop) for entry in entries.values())
        begin, end = len(self._header), max((stop for _, stop in places), default=len(self._header))
        if any(start < stop for (_, stop), (start, _) in pairwise(places)):
            raise RefusedError(f"{self.path} holds tensors that overlap, so it is refused")
        if end > _ABSURD * self._size:
            raise RefusedError(f"{self.path} claims {end:,} bytes in a file of {self._size:,}, so it is refused")
        if end != self._size or any(stop != start for (_, stop), (start, _) in pairwise([(0, begin), *places])):
            raise self._damage(f"its tensors take {end:,} bytes, but it has {self._size:,}, or there are gaps")
        return entries

    def _listed(self) -> dict[str, Any]:
        """The header. Raises RefusedError where it takes far more memory than it has, ValueError where it is none."""
        count = self._header.count(b'"data_offsets"')
        if count > _MOST_TENSORS:  # before it is read
            raise RefusedError(f"{self.path} holds about {count:,} tensors, more than {_MOST_TENSORS:,}: refused")
        parts = self._header.count(b"{") + self._header.count(b"[")
        if parts > _MOST_PARTS:
            raise RefusedError(f"{self.path} has a header of {parts:,} parts, more than {_MOST_PARTS:,}: refused")
        listed = json.loads(self._header[8:], object_pairs_hook=unique)
        if not isinstance(listed, dict):
            raise ValueError("no object")
        return listed

    def _entry(self, name: str, value: Any) -> Entry:
        import torch

        begin, end = value["data_offsets"]
        shape = tuple(value["shape"])
        if not all(type(one) is int and one >= 0 for one in (begin, end, *shape)) or end < begin:
            raise ValueError(name)
        if len(shape) > _MOST_AXES or math.prod(max(1, one) for one in shape) > _LARGEST:
            raise self._damage(f"'{name[:100]}' has an impossible shape, of {len(shape)} axes up to {max(shape):.3g}")
        held, known = end - begin, getattr(torch, _DTYPES.get(value["dtype"], ""), None)
        extent = (len(self._header) + begin, len(self._header) + end)
        if known is None:  # a dtype that torch has not: bytes, which are left alone
            return Entry(self._memory, torch.uint8, (held,), *extent)
        needed = math.prod(shape) * known.itemsize
        if needed > held:
            raise RefusedError(
                f"{self.path} asks for memory that it does not hold ('{name}' of shape {'x'.join(map(str, shape))} "
                f"takes {needed:,} bytes, but has {held:,}), so it is refused"
            )
        if needed < held:
            raise self._damage(f"'{name}' takes {needed:,} bytes, but has {held:,}")
        return Entry(self._memory, known, shape, *extent)

    def _damage(self, why: str) -> InputError:
        return InputError(f"{self.path} cannot be read as safetensors ({why}): it is truncated or damaged")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises ValueError for a key that stands there twice: readers differ in which they take."""
    header = dict(pairs)
    if len(header) != len(pairs):
        raise ValueError("a key stands there twice")
    return header


def _bytes(piece: Tensor) -> memoryview:
    import torch

    return piece.detach().contiguous().view(-1).view(torch.uint8).numpy().data


def _stream(stream: IO[bytes], pieces: Iterable[memoryview]) -> None:
    """Write in a thread, so that the next pieces are made meanwhile; and let the disk begin before the end."""
    with ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(1) as syncer:
        waiting: deque[Future[int]] = deque()
        unsynced = 0
        for piece in pieces:
            waiting.append(writer.submit(stream.write, piece))
            while len(waiting) > _WAITING:
                unsynced += waiting.popleft().result()
            if unsynced >= _SYNC:
                syncer.submit(os.fsync, stream.fileno())  # write_whole's own one, at the end, tells of errors
                unsynced = 0
        for one in waiting:
            one.result()
