"""What a file of torch's asks for when it is read, found out without reading it: names to call, memory to take.

The pickle is gone through with stand-ins in the place of everything that it names, so nothing is run and nothing is
allocated; what would rebuild a tensor is compared with what the file holds.
"""

from __future__ import annotations

import math
import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

from modelopt_cli.core.errors import InputError, RefusedError

_ZIP = b"PK\x03\x04"  # what torch itself goes by
_PICKLES = 5  # in torch's older format: magic number, protocol, system, content, keys of the storages
_REBUILD = tuple(f"torch._utils._rebuild_{kind}" for kind in ("tensor", "tensor_v2", "tensor_v3", "qtensor"))
_WITHIN = "torch._tensor._rebuild_from_type_v2"  # (function, type, its arguments, state)
_EIGHT, _FOUR, _TWO = ("Double", "Long", "ComplexFloat"), ("Float", "Int", "QInt32"), ("Half", "BFloat16", "Short")
_ITEM = {"ComplexDouble": 16, **dict.fromkeys(_EIGHT, 8), **dict.fromkeys(_FOUR, 4), **dict.fromkeys(_TWO, 2)}
_ABSURD = 1000  # times what the file holds: no truncated download


@dataclass(frozen=True)
class _Storage:
    key: str
    count: int  # elements
    item: int  # bytes of one

    @property
    def nbytes(self) -> int:
        return self.count * self.item


@dataclass
class Claims:
    """`names`: everything that the pickles name, `module.name`, in order. `storages`: key -> bytes that it takes."""

    path: Path
    names: list[str] = field(default_factory=list)
    storages: dict[str, int] = field(default_factory=dict)

    def refuse(self, what: str) -> RefusedError:
        """The error to raise."""
        return RefusedError(f"{self.path} asks for memory that it does not hold ({what}), so it is refused")

    def check_tensor(self, arguments: tuple[Any, ...]) -> None:
        """`arguments`: storage, offset, size, stride, ... Refuse a tensor that its storage does not hold."""
        storage, offset, size, stride = arguments[:4]
        size, stride = _numbers(size), _numbers(stride)
        if not isinstance(storage, _Storage) or size is None or stride is None or len(size) != len(stride):
            raise InputError(f"{self.path} is damaged: it builds a tensor of something else than numbers")
        count = math.prod(size)
        end = offset + 1 + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True)) if count else 0
        if min([offset, *size, *stride], default=0) < 0 or max(count, end) > storage.count:
            raise self.refuse(f"a tensor of shape {'x'.join(map(str, size))} over {storage.count:,} numbers")

    def check_call(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Refuse what would take memory by itself."""
        if name in _REBUILD:
            self.check_tensor(arguments)
        elif name == _WITHIN and isinstance(arguments[0], type) and issubclass(arguments[0], _StandIn):
            arguments[0](*arguments[2])
        elif (name.startswith("torch") and name.endswith(("Tensor", "Storage"))) or name.endswith(".bytearray"):
            sizes = [one for one in arguments if isinstance(one, int) or _numbers(one)]
            if sizes:
                raise self.refuse(f"{name} of {sizes[0]}")


class _StandIn:
    """In the place of a class or function that a pickle names. Being called, it looks at its arguments: no more."""

    name: ClassVar[str]
    claims: ClassVar[Claims]

    def __new__(cls, *arguments: Any, **_: Any) -> _StandIn:
        self = object.__new__(cls)
        cls.claims.check_call(cls.name, arguments)
        self.__dict__["arguments"] = arguments
        return self

    def __init__(self, *arguments: Any, **_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and state and isinstance(state[0], _Storage):
            self.claims.check_tensor(state)

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, *_: Any) -> None: ...

    extend = add = update = append


class _Reader(pickle._Unpickler):
    """Python's own reader (not the one in C, which makes room for whatever memo index a file names)."""

    def __init__(self, stream: IO[bytes], claims: Claims) -> None:
        super().__init__(stream, encoding="latin1")
        self._claims = claims

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        self._claims.names.append(full)
        return type("StandIn", (_StandIn,), {"name": full, "claims": self._claims})

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) < 5:
            return None
        kind, key, count = getattr(pid[1], "name", "").rpartition(".")[2].removesuffix("Storage"), str(pid[2]), pid[4]
        if not isinstance(count, int) or count < 0:
            raise InputError(f"{self._claims.path} is damaged: a storage of {count!r} numbers")
        storage = _Storage(key, count, _ITEM.get(kind, 1))
        self._claims.storages[key] = max(storage.nbytes, self._claims.storages.get(key, 0))
        return storage


def look(stream: IO[bytes], claims: Claims) -> None:
    """Fill `claims` from the file and refuse what it cannot hold. Leaves the stream at its start.

    Raises InputError for an empty file, RefusedError for one that claims more than it has, and whatever Python's
    reader of pickles raises for what is none.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if size == 0:
        raise InputError(f"{claims.path} is empty")
    zipped = stream.read(len(_ZIP)) == _ZIP
    stream.seek(0)
    if zipped:
        _look_into_archive(stream, size, claims)
    else:
        for _ in range(_PICKLES):
            _Reader(stream, claims).load()
            if stream.tell() >= size:
                break
        _held(sum(claims.storages.values()), size, claims)
    stream.seek(0)


def check_archive(stream: IO[bytes], path: Path) -> None:
    """Refuse an archive whose entries would unpack to more than the file holds (torch stores them uncompressed)."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if stream.read(len(_ZIP)) == _ZIP:
        _entries(stream, size, Claims(path))
    stream.seek(0)


def _entries(stream: IO[bytes], size: int, claims: Claims) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    archive = zipfile.ZipFile(stream)
    entries = archive.infolist()
    claimed = sum(entry.file_size for entry in entries)
    if claimed > size:
        raise claims.refuse(f"its entries unpack to {claimed:,} bytes, in a file of {size:,}")
    named = {entry.filename.lower(): entry for entry in entries}  # torch's reader does not tell cases apart
    if len(named) != len(entries):
        raise RefusedError(f"{claims.path} holds two entries of one name, so it is refused")
    return archive, named


def _look_into_archive(stream: IO[bytes], size: int, claims: Claims) -> None:
    archive, named = _entries(stream, size, claims)
    prefix = next(iter(named), "").partition("/")[0]
    if f"{prefix}/data.pkl" not in named:
        raise InputError(f"{claims.path} is an archive, but none that torch.save wrote: it has no data.pkl")
    with archive.open(named[f"{prefix}/data.pkl"]) as content:
        _Reader(content, claims).load()
    _check_records(named, prefix, claims)


def _check_records(named: Mapping[str, zipfile.ZipInfo], prefix: str, claims: Claims) -> None:
    for key, nbytes in claims.storages.items():
        record = named.get(f"{prefix}/data/{key}".lower())
        if record is None:
            raise InputError(f"{claims.path} is damaged: it holds no numbers for the storage {key}")
        if nbytes > record.file_size:
            raise claims.refuse(f"{nbytes:,} bytes of an entry that has {record.file_size:,}")


def _held(nbytes: int, size: int, claims: Claims) -> None:
    """A cut-off file is damaged; one that claims a thousand times what it has is a bomb."""
    if nbytes > _ABSURD * size:
        raise claims.refuse(f"{nbytes:,} bytes, in a file of {size:,}")
    if nbytes > size:
        raise InputError(f"{claims.path} is truncated: it should hold {nbytes:,} bytes, but has {size:,}")


def _numbers(value: Any) -> tuple[int, ...] | None:
    """A plain tuple of whole numbers, or torch.Size of one."""
    if isinstance(value, _StandIn):
        value = next(iter(value.__dict__["arguments"]), ())
    whole = isinstance(value, tuple | list) and all(isinstance(one, int) for one in value)
    return tuple(value) if whole else None
