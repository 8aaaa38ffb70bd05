"""What a file of torch's asks for when it is read, found out without reading it: names to call, memory to take.

The steps of its pickle are counted and measured first (pickle_steps.py). Then it is gone through with stand-ins in the
place of everything that it names, so nothing is run and nothing is allocated; what would rebuild a tensor is compared
with what the file holds, and what is called with what torch and numpy themselves would write.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from modelopt_cli.core import zip_files
from modelopt_cli.core.errors import InputError, RefusedError
from modelopt_cli.models.files import inert, kinds
from modelopt_cli.models.files.pickle_steps import end_of

_PICKLES = 5  # in torch's older format: magic number, protocol, system, content, keys of the storages
_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")  # the number that the older format begins with
_REBUILD = tuple(f"torch._utils._rebuild_{kind}" for kind in ("tensor", "tensor_v2", "tensor_v3", "qtensor"))
_WITHIN = "torch._tensor._rebuild_from_type_v2"  # (function, type, its arguments, state)
_COPIES = tuple(f"torch._utils._rebuild_device_tensor_from_{kind}" for kind in ("cpu_tensor", "numpy"))
_HASHED = ("builtins.set", "collections.Counter", "collections.OrderedDict")  # of what is in their argument
_CODECS = ("_codecs.encode", "builtins.bytearray")
_LATIN = ("latin1", "latin-1")  # the one codec that torch and numpy write bytes with
_EIGHT, _FOUR, _TWO = ("Double", "Long", "ComplexFloat"), ("Float", "Int", "QInt32"), ("Half", "BFloat16", "Short")
_ITEM = {"ComplexDouble": 16, **dict.fromkeys(_EIGHT, 8), **dict.fromkeys(_FOUR, 4), **dict.fromkeys(_TWO, 2)}
_ABSURD = 1000  # times what the file holds: no truncated download
_SMALL = 1 << 26  # bytes that elements which share memory may take all together, where they are told apart
_MOST_NAMES = 5000
_MOST_AXES = 64  # of numpy's arrays
_DEEPEST = 100  # containers in one another
_MARGIN, _REPEATS = 100_000, 4  # values, those in several places counted in each: so many, and a byte of the pickle
_KEY_DEPTH, _KEY_LENGTH = 3, 64  # of a tuple as a key


class OtherPickle(pickle.UnpicklingError):
    """A sound pickle that torch.save did not write."""


@dataclass(frozen=True, slots=True)
class _Storage:
    count: int  # elements
    item: int  # bytes of one; 0: not known

    @property
    def nbytes(self) -> int:
        return self.count * max(1, self.item)


@dataclass
class Claims:
    """`names`: everything that the pickles name, `module.name`, in order. `storages`: key -> bytes that it takes."""

    path: Path
    names: list[str] = field(default_factory=list)
    storages: dict[str, int] = field(default_factory=dict)
    spent: int = 0  # bytes that are made besides the storages

    def refuse(self, what: str) -> RefusedError:
        """The error to raise."""
        return RefusedError(f"{self.path} asks for memory that it does not hold ({what}), so it is refused")

    def spend(self, nbytes: int, what: str) -> None:
        """Refuse where this is more than a little together with what was made before."""
        self.spent += nbytes
        if self.spent > _SMALL:
            raise self.refuse(what)

    def check_tensor(self, arguments: tuple[Any, ...]) -> None:
        """`arguments`: storage, offset, size, stride, ... Refuse a tensor that its storage does not hold."""
        storage, offset, size, stride = arguments[:4]
        size, stride = _numbers(size), _numbers(stride)
        if not isinstance(storage, _Storage) or size is None or stride is None or len(size) != len(stride):
            raise InputError(f"{self.path} is damaged: it builds a tensor of something else than numbers")
        count = math.prod(size)
        end = offset + 1 + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True)) if count else 0
        shape = f"a tensor of shape {'x'.join(_short(one) for one in size[:16])} over {storage.count:,} numbers"
        if (
            min([offset, *size, *stride], default=0) < 0
            or end > storage.count
            or max([0, *size]) >= 1 << 63
            or len(size) > _MOST_AXES
        ):
            raise self.refuse(shape)
        if count > storage.count:  # its elements share memory, as those of an expanded tensor do
            self.spend(count * (storage.item or 16), shape)

    def check_call(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Refuse what would take memory or time by itself."""
        first = arguments[0] if arguments else None
        if name in _REBUILD:
            self.check_tensor(arguments)
        elif name == _WITHIN and isinstance(first, type) and issubclass(first, _StandIn):
            first(*arguments[2])
        elif name in _COPIES:
            self.spend(_copied(first), f"copies of tensors by {name}")
        elif name in _CODECS:
            self._check_codec(name, arguments)
        elif name.startswith("torch") and name.endswith(("Tensor", "Storage")):
            if arguments:
                raise self.refuse(f"{name} of {_short(first)}")
        elif name in _HASHED:
            self._check_hashed(name, arguments)
        elif name in inert.NAMES and not inert.takes(name, arguments):
            raise self.refuse(f"{name} of {_short(first)}")

    def check_keys(self, keys: Iterable[Any]) -> None:
        """Refuse keys whose hash would take for ever: tuples of the same tuples, over and over."""
        if not all(_quick(key) for key in keys):
            raise RefusedError(f"{self.path} has keys of tuples in tuples, which take for ever, so it is refused")

    def check_extent(self, content: Any, length: int) -> None:
        """Refuse containers that hold themselves, lie too deep, or are far more than the pickle's `length` in bytes."""
        most = _MARGIN + _REPEATS * length
        sizes: dict[int, int] = {}  # of what is done with, by identity: nothing is freed meanwhile
        path: list[tuple[Any, Iterator[Any], list[int]]] = [(content, iter(_parts(content)), [1])]
        above = {id(content)}
        while path:
            item, parts, size = path[-1]
            part = next(parts, _NOTHING)
            if part is _NOTHING:
                path.pop()
                above.discard(id(item))
                sizes[id(item)] = size[0]
                if path:
                    path[-1][2][0] += size[0]
            elif not isinstance(part, _CONTAINERS):
                size[0] += 1
            elif id(part) in sizes:
                size[0] += sizes[id(part)]
            elif id(part) in above or len(path) >= _DEEPEST:
                raise RefusedError(f"{self.path} holds containers in one another without end, so it is refused")
            else:
                above.add(id(part))
                path.append((part, iter(_parts(part)), [1]))
            if size[0] > most:
                raise self.refuse(f"the same containers over and over: more than {most:,} values")

    def _check_codec(self, name: str, arguments: tuple[Any, ...]) -> None:
        text = len(arguments) == 2 and type(arguments[0]) is str and arguments[1] in _LATIN
        plain = name.endswith("bytearray") and (not arguments or isinstance(arguments[0], bytes | _StandIn))
        if text or (plain and len(arguments) < 2):
            return
        if name.endswith("bytearray") and not (arguments and isinstance(arguments[0], str)):
            raise self.refuse(f"{name} of {_short(arguments[0])}")
        raise RefusedError(
            f"{self.path} calls {name} with {', '.join(map(_short, arguments[1:])) or 'no codec'}, but torch and numpy "
            "write bytes with latin1 only, so it is refused"
        )

    def _check_hashed(self, name: str, arguments: tuple[Any, ...]) -> None:
        if not arguments:
            return
        held = arguments[0]
        if len(arguments) > 1 or not isinstance(held, list | tuple | dict):
            raise InputError(f"{self.path} is damaged: it makes a {name} of something else than values")
        if name.endswith("OrderedDict") and not isinstance(held, dict):
            pairs = [pair for pair in held if isinstance(pair, list | tuple) and len(pair) == 2]
            self.check_keys(pair[0] for pair in pairs)
        elif not isinstance(held, dict):
            self.check_keys(held)


class _StandIn:
    """In the place of a class or function that a pickle names. Being called, it looks at its arguments: no more."""

    __slots__ = ("arguments", "held")
    name: ClassVar[str]
    claims: ClassVar[Claims]
    arguments: tuple[Any, ...]
    held: list[Any]  # what is put in later

    def __new__(cls, *arguments: Any, **_: Any) -> _StandIn:
        self = object.__new__(cls)
        cls.claims.check_call(cls.name, arguments)
        self.arguments, self.held = arguments, []
        return self

    def __init__(self, *arguments: Any, **_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and state and isinstance(state[0], _Storage):
            self.claims.check_tensor(state)
        if self.name in inert.NAMESPACES and not (isinstance(state, dict) and all(type(key) is str for key in state)):
            raise InputError(f"{self.claims.path} is damaged: a {self.name} of something else than names and values")
        self.held.append(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.claims.check_keys([key])
        self.held.append(value)

    def append(self, value: Any) -> None:
        self.held.append(value)

    def extend(self, values: Iterable[Any]) -> None:
        self.held.extend(values)

    add, update = append, extend


_CONTAINERS = (dict, list, tuple, set, frozenset, _StandIn)
_NOTHING = object()


class _Reader(pickle._Unpickler):
    """Python's own reader (not the one in C, which makes room for whatever memo index a file names)."""

    def __init__(self, steps: bytes, claims: Claims) -> None:
        super().__init__(io.BytesIO(steps), encoding="latin1")
        self.claims = claims
        self._classes: dict[str, type[_StandIn]] = {}
        self._length = len(steps)

    def load(self) -> Any:
        """The content, of stand-ins."""
        content = super().load()
        self.claims.check_extent(content, self._length)
        return content

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in NAME_MAPPING:  # those of Python 2, as torch's reader takes them
            module, name = NAME_MAPPING[module, name]
        full = f"{IMPORT_MAPPING.get(module, module)}.{name}"
        if full not in self._classes:
            self.claims.names.append(full)
            if len(self._classes) >= _MOST_NAMES:
                raise RefusedError(f"{self.claims.path} names more than {_MOST_NAMES:,} things, so it is refused")
            members = {"__slots__": (), "name": full, "claims": self.claims}
            self._classes[full] = type("StandIn", (_StandIn,), members)
        return self._classes[full]

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) < 5:
            return None
        kind, key, count = getattr(pid[1], "name", "").rpartition(".")[2].removesuffix("Storage"), str(pid[2]), pid[4]
        if not isinstance(count, int) or count < 0:
            raise InputError(f"{self.claims.path} is damaged: a storage of {_short(count)} numbers")
        storage = _Storage(count, _ITEM.get(kind, 0 if kind == "Untyped" else 1))
        self.claims.storages[key] = max(storage.nbytes, self.claims.storages.get(key, 0))
        return storage


def _checked(step: bytes, keys: slice) -> Callable[[Any], None]:
    """The step, its keys looked at first."""
    original: Callable[[Any], None] = pickle._Unpickler.dispatch[step[0]]

    def load(reader: Any) -> None:
        reader.claims.check_keys(reader.stack[keys])
        original(reader)

    return load


_Reader.dispatch = {
    **pickle._Unpickler.dispatch,
    pickle.SETITEM[0]: _checked(pickle.SETITEM, slice(-2, -1)),
    pickle.SETITEMS[0]: _checked(pickle.SETITEMS, slice(0, None, 2)),
    pickle.DICT[0]: _checked(pickle.DICT, slice(0, None, 2)),
    pickle.ADDITEMS[0]: _checked(pickle.ADDITEMS, slice(None)),
    pickle.FROZENSET[0]: _checked(pickle.FROZENSET, slice(None)),
}


def look(memory: mmap.mmap, claims: Claims) -> dict[str, zip_files.Record] | None:
    """Fill `claims` from the file in `memory` and refuse what it cannot hold. Gives an archive's records.

    Raises InputError for a file that is not torch's, RefusedError for one that claims more than it has, and whatever
    Python's reader of pickles raises for what is none.
    """
    head = memory[: kinds.HEAD]
    if kinds.is_zip(head):
        return _look_into_archive(memory, claims)
    if _MAGIC in head[:32]:
        _look_at_pickles(memory, claims)
        return None
    _look_at_other(memory, claims)
    raise OtherPickle("none that torch.save wrote")


def check_archive(memory: mmap.mmap, path: Path) -> dict[str, zip_files.Record] | None:
    """The records of an archive; None for torch's older format.

    Raises InputError for what is known not to be torch's. Refuses an archive whose entries would unpack to more than
    the file holds (torch stores them uncompressed).
    """
    head = memory[: kinds.HEAD]
    if kinds.is_zip(head):
        return _records(memory, Claims(path))
    kind = None if _MAGIC in head[:32] else kinds.kind_of(head, path.name)
    if kind is not None:
        raise InputError(f"{path} is {kind}")
    return None


def _records(memory: mmap.mmap, claims: Claims) -> dict[str, zip_files.Record]:
    records = zip_files.records(memoryview(memory), str(claims.path))
    kind = kinds.archive_kind(records)
    if kind is not None:
        raise InputError(f"{claims.path} is {kind}")
    claimed = sum(record.size for record in records.values())
    if claimed > len(memory):
        raise claims.refuse(f"its entries unpack to {claimed:,} bytes, in a file of {len(memory):,}")
    return records


def _look_into_archive(memory: mmap.mmap, claims: Claims) -> dict[str, zip_files.Record]:
    records = _records(memory, claims)
    named = {name.lower(): record for name, record in records.items()}  # torch's reader does not tell cases apart
    prefix = next(iter(records)).partition("/")[0].lower()
    content = named.get(f"{prefix}/data.pkl")
    if content is None:
        raise InputError(f"{claims.path} is an archive, but none that torch.save wrote: it has no data.pkl")
    data, what = memoryview(memory), str(claims.path)
    if not zip_files.without_checksums(records):
        zip_files.check(data, content, what)
    steps = zip_files.content(data, content, what)
    _Reader(steps[: end_of(steps, 0, what)], claims).load()
    for key, nbytes in claims.storages.items():
        record = named.get(f"{prefix}/data/{key}".lower())
        if record is None:
            raise InputError(f"{claims.path} is damaged: it holds no numbers for the storage {key[:100]}")
        if nbytes > record.size:
            raise claims.refuse(f"{nbytes:,} bytes of an entry that has {record.size:,}")
    return records


def _look_at_pickles(memory: mmap.mmap, claims: Claims) -> None:
    """Torch's older format: pickles one after another, then the numbers."""
    offset, size = 0, len(memory)
    for _ in range(_PICKLES):
        end = end_of(memory, offset, str(claims.path))
        _Reader(memory[offset:end], claims).load()
        offset = end
        if offset >= size:
            break
    nbytes = sum(claims.storages.values())
    if nbytes > _ABSURD * size:
        raise claims.refuse(f"{nbytes:,} bytes, in a file of {size:,}")
    if nbytes > size:
        raise InputError(f"{claims.path} is truncated: it should hold {nbytes:,} bytes, but has {size:,}")


def _look_at_other(memory: mmap.mmap, claims: Claims) -> None:
    """What is not torch's: named where it is known, else gone through for the names in it, if it is a pickle."""
    what = str(claims.path)
    kind = kinds.kind_of(memory[: kinds.HEAD], claims.path.name)
    refusal = InputError(f"{what} is {kind}")
    if kind is not None and not kind.startswith("text"):
        raise refusal
    try:
        end = end_of(memory, 0, what)
    except InputError:
        if kind is None:
            raise
        raise refusal from None
    _Reader(memory[:end], claims).load()


def _copied(tensor: Any) -> int:
    """Bytes of a copy, in the widest dtype."""
    storage = next(iter(tensor.arguments), None) if isinstance(tensor, _StandIn) else None
    return 16 * (storage.count if isinstance(storage, _Storage) else 1)


def _parts(container: Any) -> Iterable[Any]:
    if isinstance(container, dict):
        return container.values()
    if isinstance(container, _StandIn):
        return (*container.arguments, *container.held)
    return container if isinstance(container, list | tuple | set | frozenset) else ()


def _quick(key: Any, depth: int = 0) -> bool:
    if not isinstance(key, tuple):
        return True
    return depth < _KEY_DEPTH and len(key) <= _KEY_LENGTH and all(_quick(one, depth + 1) for one in key)


def _short(value: Any) -> str:
    """In an error: no longer than that."""
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "a number without end"
    if isinstance(value, int | str | float):
        return str(value)[:60] if isinstance(value, str) else str(value)
    numbers = _numbers(value)
    return f"({', '.join(_short(one) for one in numbers[:8])})" if numbers is not None else type(value).__name__


def _numbers(value: Any) -> tuple[int, ...] | None:
    """A plain tuple of whole numbers, or torch.Size of one."""
    if isinstance(value, _StandIn):
        value = next(iter(value.arguments), ())
    whole = isinstance(value, tuple | list) and all(isinstance(one, int) for one in value)
    return tuple(value) if whole else None
