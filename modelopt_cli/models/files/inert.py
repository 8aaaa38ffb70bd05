"""Values that checkpoints hold beside their tensors and that run nothing: numpy's numbers, paths, dates, options.

torch's safe reader takes tensors and plain containers alone, but trainers also save their options (a Namespace), the
best score (a number of numpy's), random states, paths. Those of a fixed list of types are read: as themselves where a
type's own code does nothing but keep what it is given, else as a note of what the file says that they are made of.
Either way they are written back as they were.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

NAMESPACES = ("argparse.Namespace", "types.SimpleNamespace")
TYPES = tuple(
    f"builtins.{name}" for name in ("int", "float", "str", "bool", "list", "dict", "tuple", "object", "bytes")
)
"""Named as values; called without arguments at most."""
_NUMPY = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
_RECONSTRUCT = tuple(f"{module}._reconstruct" for module in _NUMPY[1:])
_SCALAR = tuple(f"{module}.scalar" for module in _NUMPY[1:])
_PATHS = tuple(f"{module}.{kind}Path" for module in ("pathlib", "pathlib._local")
               for kind in ("Posix", "Windows", "PurePosix", "PureWindows"))  # fmt: skip
_KEPT = (
    *_PATHS,
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    "decimal.Decimal",
    "fractions.Fraction",
    "builtins.frozenset",
    "builtins.slice",
    "builtins.range",
)
_FILLED = ("collections.defaultdict", "collections.deque")
_VERSION = "torch.torch_version.TorchVersion"
_CODE = re.compile(r"(?:[biu][1248]|f(?:2|4|8|16)|c(?:8|16|32)|[SUV]\d{1,5}|[mM]8)")
NAMES = frozenset(
    (*NAMESPACES, *TYPES, *_RECONSTRUCT, *_SCALAR, *_KEPT, *_FILLED, _VERSION, "numpy.dtype", "numpy.ndarray")
)
"""Everything that may be named besides what torch's reader takes by itself."""


class Kept:
    """A value as what the file says it is made of: a call of `name`. It is written back as that call."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name, self.arguments, self.state = name, arguments, None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        call = (_named(self.name), self.arguments)
        return call if self.state is None else (*call, self.state)

    def __repr__(self) -> str:
        return f"{self.name}(...)"


class Dtype:
    """A dtype of numpy's. Raises ValueError for one that is not of plain numbers, dates or text."""

    def __init__(self, code: str, align: object = False, copy: object = True) -> None:
        if not isinstance(code, str) or not _CODE.fullmatch(code):
            raise ValueError(f"numpy.dtype({str(code)[:40]!r})")
        self.code, self.state = code, ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        plain = (type(one) in (int, str, type(None)) for one in state[:8])
        if self.code[0] not in "mM" and not (all(plain) and state[1] in ("<", ">", "=", "|")):
            raise ValueError("a dtype of fields")
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        call = (_named("numpy.dtype"), (self.code, False, True))
        return (*call, self.state) if self.state else call


class Array:
    """An array of numpy's as its parts: version, shape, dtype, order, bytes."""

    def __init__(self, *arguments: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, _, content = state
        if not isinstance(shape, tuple) or not isinstance(dtype, Dtype) or not isinstance(content, bytes):
            raise ValueError("an array of objects")
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        begun = (_named("numpy._core.multiarray._reconstruct"), (_named("numpy.ndarray"), (0,), b"b"))
        return begun if self.state is None else (*begun, self.state)


class _Placed:
    """Containers that torch's reader fills as a dict or a list, with what is to stand in their place."""

    def __init__(self) -> None:
        self._made: list[tuple[Any, Callable[[Any], Any]]] = []

    def defaultdict(self, factory: Any = None, *rest: Any) -> dict[Any, Any]:
        mapping: dict[Any, Any] = dict(*rest)
        make = factory if factory in _FACTORIES else None
        self._made.append((mapping, lambda items: defaultdict(make, items)))
        return mapping

    def deque(self, items: Any = (), longest: int | None = None) -> list[Any]:
        values = list(items)
        self._made.append((values, lambda items: deque(items, longest)))
        return values

    def put(self, content: Any) -> Any:
        """The content with every such container in its place."""
        if not self._made:
            return content
        swaps = {id(made): make for made, make in self._made}
        done: dict[int, Any] = {}

        def renewed(item: Any) -> Any:
            if id(item) in done:
                return done[id(item)]
            result = item
            if isinstance(item, dict):
                for key, value in item.items():
                    item[key] = renewed(value)
            elif type(item) is list:
                item[:] = [renewed(value) for value in item]
            elif type(item) is tuple:
                parts = [renewed(value) for value in item]
                result = item if all(new is old for new, old in zip(parts, item, strict=True)) else tuple(parts)
            elif hasattr(item, "__dict__") and type(item).__module__ in ("argparse", "types"):
                vars(item).update({key: renewed(value) for key, value in vars(item).items()})
            if id(item) in swaps:
                result = swaps[id(item)](item)
            done[id(item)] = result
            return result

        return renewed(content)


_LOCK = threading.RLock()  # torch's list of safe names is one for all threads
_FACTORIES = (None, int, float, str, bool, list, dict, tuple, set)


@contextmanager
def allowed() -> Iterator[Callable[[Any], Any]]:
    """While torch.load runs: the types of the list are read. Gives what is to be called on what it has read."""
    import argparse
    import builtins
    import types

    import numpy
    import torch

    placed = _Placed()
    pairs: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (argparse.Namespace, NAMESPACES[0]),
        (types.SimpleNamespace, NAMESPACES[1]),
        (torch.torch_version.TorchVersion, _VERSION),
        (placed.defaultdict, _FILLED[0]),
        (placed.deque, _FILLED[1]),
        (Dtype, "numpy.dtype"),
        (numpy.ndarray, "numpy.ndarray"),
        *((getattr(builtins, name.partition(".")[2]), name) for name in TYPES),
        *((Array, name) for name in _RECONSTRUCT),
        *((_keeper(name), name) for name in _KEPT),
        *((_keeper("numpy._core.multiarray.scalar"), name) for name in _SCALAR),
        (Kept, "modelopt_cli.models.files.inert.Kept"),
    ]
    with _LOCK, torch.serialization.safe_globals(pairs):
        yield placed.put


def _keeper(name: str) -> Callable[..., Kept]:
    return lambda *arguments: Kept(name, arguments)


def _named(name: str) -> Any:
    """What a name of the list stands for."""
    module, _, attribute = name.replace("pathlib._local", "pathlib").rpartition(".")
    return getattr(import_module(module), attribute)


def takes(name: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a call of a name of the list does no more than to keep what it is given."""
    if name in TYPES or name in NAMESPACES:
        return not arguments
    if name == _VERSION:
        return len(arguments) == 1 and type(arguments[0]) is str
    return name != "numpy.ndarray" and (name not in _FILLED or len(arguments) <= 2)
