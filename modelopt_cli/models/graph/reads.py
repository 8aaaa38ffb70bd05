"""Which of its integers a module reads in a forward pass, and which operators get them as they are.

While the pass runs, modules' classes are exchanged for ones whose integers know where they come from. Arithmetic makes
plain integers of them; one that reaches an operator unchanged is written in the graph at the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from modelopt_cli.models.graph.constants import Constant

Origin = tuple[int, str, int]
"""(id of the module, name of the attribute, index in it or -1)."""
_ANY = -1  # position in the arguments
_OPERATORS = {
    "view": ("view", "_unsafe_view"),
    "reshape": ("reshape", "view", "_unsafe_view"),
    "unflatten": ("unflatten",),
    "expand": ("expand",),
    "split": ("split", "split_with_sizes"),
    "chunk": ("chunk",),
    "pad": ("pad", "constant_pad_nd"),
    "__getitem__": ("slice",),
    "narrow": ("slice",),
    **{name: (name,) for name in ("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "group_norm")},
}
"""Python's name of a function -> what it is in a graph."""
_WHEREVER = ("split", "split_with_sizes", "chunk", "slice", "group_norm")  # the argument's position tells nothing


@dataclass(frozen=True)
class Reads:
    """What a forward pass did with integers."""

    names: set[tuple[int, str]] = field(default_factory=set)  # (id of the module, attribute)
    given: dict[Origin, set[tuple[str, int]]] = field(default_factory=dict)  # operators in a graph, and places

    def fits(self, origin: Origin, constant: Constant) -> bool:
        """Whether the constant may come from there: where it was seen to be given, if it was."""
        seen = self.given.get(origin)
        if not seen:
            return True
        operator = constant.operator.partition(".")[0]
        last = constant.position.rpartition(".")[2]
        position = int(last) if last.isdigit() and operator not in _WHEREVER else _ANY
        return any(name == operator and at in (position, _ANY) for name, at in seen)


def read_by(module: nn.Module, run: Callable[[], object]) -> Reads:
    """What `run`, a forward pass of the module, reads. Raises TypeError where a class cannot be exchanged."""
    reads = Reads()
    before = [(part, type(part)) for part in module.modules()]
    watching: dict[type, type] = {}
    try:
        for part, kind in before:
            if not kind.__module__.startswith("torch.nn."):
                part.__class__ = watching.setdefault(kind, _watching(kind, reads))
        with _Watch(reads):
            run()
    finally:
        for part, kind in before:
            part.__class__ = kind
    return reads


class _Traced(int):
    """An integer out of an attribute."""

    origin: Origin


def _traced(value: int, origin: Origin) -> _Traced:
    traced = _Traced(value)
    traced.origin = origin
    return traced


def _watching(kind: Any, reads: Reads) -> type:
    def get(self: Any, name: str) -> Any:
        value = kind.__getattribute__(self, name)
        if type(value) is int:
            reads.names.add((id(self), name))
            return value if name.startswith("__") else _traced(value, (id(self), name, -1))
        if isinstance(value, list | tuple) and type(value) in (list, tuple) and _integers(value):
            reads.names.add((id(self), name))
            return type(value)(_traced(each, (id(self), name, index)) for index, each in enumerate(value))
        return value

    made: type = type(kind.__name__, (kind,), {"__getattribute__": get, "__module__": kind.__module__})
    return made


def _integers(value: Any) -> bool:
    return bool(value) and all(type(each) is int for each in value)


class _Watch(TorchFunctionMode):
    """Notes the operators that get integers as they came from an attribute."""

    def __init__(self, reads: Reads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        names = _OPERATORS.get(getattr(func, "__name__", ""), ())
        rest = args[1:] if args and isinstance(args[0], Tensor) else args
        places = [(position, value) for position, value in enumerate(_flat(rest))]
        for position, value in [*places, *((_ANY, value) for value in _flat((kwargs or {}).values()))]:
            if isinstance(value, _Traced):
                for name in names:
                    at = _ANY if name in _WHEREVER else position
                    self.reads.given.setdefault(value.origin, set()).add((name, at))
        return func(*args, **(kwargs or {}))


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        elif isinstance(value, slice):
            yield from (value.start, value.stop, value.step)
        else:
            yield value
