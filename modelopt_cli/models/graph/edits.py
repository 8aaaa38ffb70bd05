"""What pruning changes in a module besides its tensors: attributes, as plain values that a checkpoint can hold.

An edit is (path of the module, name of the attribute, new value), so that a dense module built anew from its code takes
the weights of a pruned one: `load_shapes(dense, state, edits)`. Both come from files, so what does not fit is refused
with a ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelopt_cli.models.graph.analysis import attribute

Number = int | float
Edit = tuple[str, str, Number | list[int]]
"""(path, name, value): numbers for numbers, a list for a list, a tuple or a torch.Size."""

_INTERNAL = frozenset(vars(nn.Module()))  # of every nn.Module: no sizes


def merged(*rounds: Iterable[Edit]) -> list[Edit]:
    """The edits of several rounds as those of one: the last value that each attribute was given."""
    last = {(path, name): value for edits in rounds for path, name, value in edits}
    return [(path, name, value) for (path, name), value in last.items()]


def apply_edits(module: nn.Module, edits: Iterable[Edit]) -> None:
    """Set the attributes. Raises ValueError, with nothing set, where one does not exist or cannot have that value."""
    parts: dict[str, nn.Module] = dict(module.named_modules(remove_duplicate=False))
    ready: dict[tuple[str, str], Any] = {}
    for edit in edits:
        path, name, value = _taken_apart(edit)
        if path not in parts:
            raise ValueError(f"an edit changes {name!r} of the module {path!r}, which the model has not")
        old = ready[path, name] if (path, name) in ready else _old(parts[path], path, name)
        ready[path, name] = _of_its_kind(old, value, f"{path}.{name}".removeprefix("."))
    for (path, name), value in ready.items():
        setattr(parts[path], name, value)


def _taken_apart(edit: Any) -> tuple[str, str, Any]:
    if isinstance(edit, list | tuple) and len(edit) == 3 and isinstance(edit[0], str) and isinstance(edit[1], str):
        return edit[0], edit[1], edit[2]
    raise ValueError(f"an edit is (path, name, value), but one is {edit!r:.80}")


def editable(part: nn.Module, name: str) -> Any:
    """The attribute's value if an edit may change it: a number, or a list or tuple of integers. None: it may not."""
    if name in _INTERNAL or isinstance(getattr(type(part), name, None), property):
        return None
    value = getattr(part, name, None)
    listed = isinstance(value, list | tuple) and bool(value) and all(type(each) is int for each in value)
    return value if type(value) in (int, float) or listed else None


def _old(part: nn.Module, path: str, name: str) -> Any:
    value = editable(part, name)
    if value is None:
        where = path or "the model"
        raise ValueError(f"an edit changes {name!r} of {where}, which is no number and no list of integers")
    return value


def _of_its_kind(old: Any, value: Any, where: str) -> Any:
    """The value as the type of the old one. Sizes only shrink, so it lies between 0 and the old one."""
    if type(old) is float:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
        raise ValueError(f"{where} is the number {old}, which cannot become {value!r:.80}")
    listed = isinstance(old, list | tuple)
    many = isinstance(value, list | tuple)
    before, after = (list(old) if listed else [old]), (list(value) if many else [value])
    fits = listed == many and len(before) == len(after)
    if not fits or not all(type(one) is int and _within(one, other) for one, other in zip(after, before, strict=True)):
        raise ValueError(f"{where} is {old}, which cannot become {value!r:.80}: pruning only makes sizes smaller")
    if not listed:
        return value
    return list(value) if isinstance(old, list) else torch.Size(value) if isinstance(old, torch.Size) else tuple(value)


def _within(new: int, old: int) -> bool:
    return new == old or 0 <= new <= old


@torch.no_grad()
def load_shapes(module: nn.Module, state: Mapping[str, Tensor], edits: Sequence[Edit] = ()) -> None:
    """Make a dense module, built anew, the pruned one: tensors of the state's shapes, then the edits.

    Parameters stay the same objects, so tied ones stay tied. Raises ValueError, with nothing changed, where a name is
    missing or unknown, or a tensor cannot be what is left of the module's.
    """
    own = dict(module.state_dict(keep_vars=True))
    missing = sorted(set(own) - set(state))
    if missing:
        raise ValueError(f"the pruned weights lack {_some(missing)}, which the model has")
    values: dict[int, tuple[str, Tensor, Tensor]] = {}  # by the identity of what takes them
    for name, value in state.items():
        target = own.get(name)
        target = _unsaved(module, name) if target is None else target
        _check(name, value, target)
        before = values.get(id(target))
        if before is not None and before[2].shape != value.shape:
            shapes = f"{list(before[2].shape)} and {list(value.shape)}"
            raise ValueError(
                f"{before[0]} and {name} are one tensor of the model, but the pruned weights have {shapes}"
            )
        values[id(target)] = (name, target, value)
    apply_edits(module, edits)
    for _, target, value in values.values():
        if target.is_meta:
            _give_values(target, value)
            continue
        target.data = value.detach().to(device=target.device, dtype=target.dtype, copy=True)
        target.grad = None


def _give_values(target: Tensor, value: Tensor) -> None:
    """The tensor that had a shape alone becomes one with values; it stays the same object."""
    values = value.detach().to(device="cpu", dtype=target.dtype, copy=True)
    kind = nn.Parameter(values, target.requires_grad) if isinstance(target, nn.Parameter) else values
    torch.utils.swap_tensors(target, kind)  # type: ignore[no-untyped-call]


def _unsaved(module: nn.Module, name: str) -> Tensor:
    try:
        tensor = attribute(module, name)
    except AttributeError:
        tensor = None
    if not isinstance(tensor, Tensor):
        raise ValueError(f"the pruned weights have {name!r}, which the model has not")
    return tensor


def _check(name: str, value: Any, target: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a tensor, but the pruned weights have a {type(value).__name__}")
    sizes, whole = list(value.shape), list(target.shape)
    if len(sizes) != len(whole) or not all(one == full or 1 <= one <= full for one, full in zip(sizes, whole)):  # noqa: B905
        raise ValueError(f"{name} has the shape {whole}, of which {sizes} cannot be what pruning leaves")
    if value.is_floating_point() != target.is_floating_point():
        raise ValueError(f"{name} has the type {target.dtype}, but the pruned weights have {value.dtype}")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
