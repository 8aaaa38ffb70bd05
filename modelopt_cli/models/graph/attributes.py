"""Which attributes of a module hold sizes: those of torch's own layers by their weights, all others by their values.

A number that the rewriters of the graph change (constants.py) was made by the code of a module, most often out of an
attribute of that module or of one around it: an integer, or one in a tuple, of that very value, which the forward pass
reads. Where several fit, the trials (bundles.py) tell which it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, permutations, product
from typing import Any

from torch import nn

from modelopt_cli.core.errors import ModeloptError
from modelopt_cli.models.graph.constants import Constant, Constants
from modelopt_cli.models.graph.edits import Edit, editable
from modelopt_cli.models.graph.layer_sizes import ATTRIBUTES, is_layer, layer_sizes
from modelopt_cli.models.graph.reads import Reads

_ANSWERS = 8  # ways that are tried to tell attributes of one value apart


class ClashingSizesError(ModeloptError):
    """One attribute stands for several sizes, which became different."""


@dataclass(frozen=True, order=True)
class Slot:
    """An integer attribute, or one of the integers in it."""

    path: str
    name: str
    index: int = -1


@dataclass(frozen=True)
class Links:
    """Slots, and the constants that come out of them."""

    constants: Constants
    slots: Mapping[Slot, tuple[Constant, ...]]

    def edits(self, module: nn.Module, changed: Mapping[Constant, int]) -> list[Edit]:
        """What the attributes become. Raises ClashingSizesError."""
        values: dict[tuple[str, str], Any] = {}
        for slot, constants in self.slots.items():
            sizes = {changed.get(constant, constant.old) for constant in constants}
            where = slot.path, slot.name
            if len(sizes) > 1:
                listed = " and ".join(map(str, sorted(sizes)))
                raise ClashingSizesError(f"{'.'.join(where).removeprefix('.')} is one number for the sizes {listed}")
            (size,) = sizes
            values.setdefault(where, _plain(getattr(module.get_submodule(slot.path), slot.name)))
            if slot.index < 0:
                values[where] = size
            else:
                values[where][slot.index] = size
        return [
            (path, name, value)
            for (path, name), value in values.items()
            if value != _plain(getattr(module.get_submodule(path), name))
        ]

    def loose(self, changed: Mapping[Constant, int]) -> list[Constant]:
        """Constants that no attribute holds: computed from shapes, or written out in the code."""
        held = {constant for constants in self.slots.values() for constant in constants}
        return [constant for constant in changed if constant not in held]


@dataclass(frozen=True)
class Question:
    """Slots of one module, of one value, and constants of that value: sorted by the groups that change them."""

    kind: tuple[object, ...]  # alike in modules of one class
    slots: tuple[Slot, ...]
    classes: tuple[tuple[Constant, ...], ...]
    certain: bool = False  # the slot was seen to be used for just these

    def answers(self) -> list[dict[Slot, tuple[Constant, ...]]]:
        """Which slot may hold which constants; the likeliest first."""
        everything = tuple(constant for each in self.classes for constant in each)
        all_of_all: list[dict[Slot, tuple[Constant, ...]]] = [dict.fromkeys(self.slots, everything)]
        count, kinds = len(self.slots), len(self.classes)
        if self.certain or count == kinds == 1:
            return all_of_all
        if count == 1:
            return [{self.slots[0]: each} for each in self.classes] + all_of_all
        if kinds == 1:
            return all_of_all + [{slot: everything} for slot in self.slots]
        apart = permutations(self.classes) if kinds == count else product(self.classes, repeat=count)
        return [dict(zip(self.slots, each, strict=True)) for each in islice(apart, _ANSWERS)] + all_of_all


def questions(
    module: nn.Module, influences: Mapping[Constant, frozenset[str]], reads: Reads | None = None
) -> list[Question]:
    """Where each constant may come from. `influences`: the groups that change it. `reads` None: not known."""
    paths = {id(part): path for path, part in module.named_modules()}
    asked: dict[tuple[Slot, ...], dict[frozenset[str], list[Constant]]] = {}
    certain: set[Slot] = set()
    for constant, groups in influences.items():
        part, names = _holder(module, constant, reads)
        sure = [each for each in names if _certain(part, each, reads)]
        certain.update(Slot(paths[id(part)], *each) for each in sure)
        slots = [Slot(paths[id(part)], *each) for each in sure or names]
        for together in [(slot,) for slot in slots] if sure else [tuple(slots)] * bool(slots):
            asked.setdefault(together, {}).setdefault(groups, []).append(constant)
    return [
        Question(
            (type(module.get_submodule(slots[0].path)), *((slot.name, slot.index) for slot in slots), len(classes)),
            slots,
            tuple(map(tuple, classes.values())),
            slots[0] in certain or isinstance(module.get_submodule(slots[0].path), nn.MultiheadAttention),
        )
        for slots, classes in asked.items()
    ]


def _certain(part: nn.Module, name: tuple[str, int], reads: Reads | None) -> bool:
    return reads is not None and bool(reads.given.get((id(part), *name)))


def _holder(module: nn.Module, constant: Constant, reads: Reads | None) -> tuple[nn.Module, list[tuple[str, int]]]:
    """The innermost module that has attributes of the value, and these; none: the outermost, without any."""
    for path in constant.paths:
        try:
            part = module.get_submodule(path)
        except AttributeError:
            continue
        names = list(_of_value(part, constant.old, reads))
        if reads is not None:
            names = [each for each in names if reads.fits((id(part), *each), constant)]
        if names:
            return part, names
        if is_layer(part):
            break  # it has no sizes but its own
    return module, []


def _of_value(part: nn.Module, value: int, reads: Reads | None) -> Iterator[tuple[str, int]]:
    own = list(vars(part))
    if reads is not None:
        read = {name for key, name in reads.names if key == id(part)}
        own = [name for name in own if name in read] + sorted(read.difference(own))
    torchs = type(part).__module__.startswith("torch.nn.")
    fitted = dict(layer_sizes(part))
    for name in ATTRIBUTES.get(type(part).__name__, vars(part)) if torchs else own:
        if name in fitted and not isinstance(part, nn.MultiheadAttention):
            continue
        held = editable(part, name)
        if type(held) is int and held == value:
            yield name, -1
        elif isinstance(held, list | tuple):
            yield from ((name, index) for index, each in enumerate(held) if each == value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def written_out(module: nn.Module, constant: Constant) -> str:
    """Where a number is written out; "" in layers, whose code computes it from shapes."""
    path = constant.paths[0]
    try:
        part = module.get_submodule(path)
    except AttributeError:
        return ""
    if is_layer(part):
        return ""
    where = constant.line or constant.operator
    return f"{path or 'the model'} ({type(part).__name__}) has the size {constant.old} in no attribute: {where}"
