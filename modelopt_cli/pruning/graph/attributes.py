"""Which attributes of a module hold sizes: those of torch's own layers by their weights, all others by their values.

A number that the rewriters of the graph change (constants.py) was made by the code of a module, most often out of an
attribute of that module or of one around it: an integer, or one in a tuple, of that very value, which the forward pass
reads. Where several fit, the trials (bundles.py) tell which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, permutations, product
from typing import Any

import torch
from torch import Tensor, nn

from modelopt_cli.core.errors import ModeloptError
from modelopt_cli.pruning.graph.constants import Constant, Constants
from modelopt_cli.pruning.graph.edits import Edit, editable

Reads = frozenset[tuple[int, str]]
"""(id of the module, name) of the attributes that a forward pass reads."""
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
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
                told = " and ".join(map(str, sorted(sizes)))
                raise ClashingSizesError(f"{'.'.join(where).removeprefix('.')} is one number for the sizes {told}")
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
    """Slots of one module and one value, and constants of that value: sorted by the groups that change them."""

    kind: tuple[object, ...]  # alike in modules of one class
    slots: tuple[Slot, ...]
    classes: tuple[tuple[Constant, ...], ...]

    def answers(self) -> list[dict[Slot, tuple[Constant, ...]]]:
        """Which slot may hold which constants; the likeliest first."""
        everything = tuple(constant for each in self.classes for constant in each)
        both: list[dict[Slot, tuple[Constant, ...]]] = [dict.fromkeys(self.slots, everything)]
        count, kinds = len(self.slots), len(self.classes)
        if count == 1:
            return both
        if kinds == 1:
            return both + [{slot: everything} for slot in self.slots]
        apart = permutations(self.classes) if kinds == count else product(self.classes, repeat=count)
        return [dict(zip(self.slots, each, strict=True)) for each in islice(apart, _ANSWERS)] + both


def questions(
    module: nn.Module, influences: Mapping[Constant, frozenset[str]], reads: Reads | None = None
) -> list[Question]:
    """Where each constant may come from. `influences`: the groups that change it. `reads` None: not known."""
    paths = {id(part): path for path, part in module.named_modules()}
    found: dict[tuple[str, int], tuple[list[Slot], dict[frozenset[str], list[Constant]]]] = {}
    for constant, groups in influences.items():
        part, names = _holder(module, constant, reads)
        if part is None:
            continue
        path = paths[id(part)]
        slots = [Slot(path, name, index) for name, index in names]
        entry = found.setdefault((path, constant.old), (slots, {}))
        entry[1].setdefault(groups, []).append(constant)
    return [
        Question(
            (type(module.get_submodule(path)), *((slot.name, slot.index) for slot in slots), len(classes)),
            tuple(slots),
            tuple(map(tuple, classes.values())),
        )
        for (path, _), (slots, classes) in found.items()
    ]


def _holder(
    module: nn.Module, constant: Constant, reads: Reads | None
) -> tuple[nn.Module | None, list[tuple[str, int]]]:
    """The innermost module that has attributes of the value."""
    for path in constant.paths:
        try:
            part = module.get_submodule(path)
        except AttributeError:
            continue
        names = list(_of_value(part, constant.old, reads))
        if names:
            return part, names
        if is_layer(part):
            break  # it has no sizes but its own
    return None, []


def is_layer(part: nn.Module) -> bool:
    """Whether it is a layer of torch's, or one whose attributes follow its weights."""
    torchs = type(part).__module__.startswith("torch.nn.") and not isinstance(part, _CONTAINERS)
    return torchs or any(True for _ in _fits(part))


def _of_value(part: nn.Module, value: int, reads: Reads | None) -> Iterator[tuple[str, int]]:
    own = list(vars(part))
    if reads is not None:
        read = {name for key, name in reads if key == id(part)}
        own = [name for name in own if name in read] + sorted(read.difference(own))
    torchs = type(part).__module__.startswith("torch.nn.")
    fitted = dict(_fits(part))
    for name in _ATTRIBUTES.get(type(part).__name__, vars(part)) if torchs else own:
        if name in fitted and not isinstance(part, nn.MultiheadAttention):
            continue
        found = editable(part, name)
        if type(found) is int and found == value:
            yield name, -1
        elif isinstance(found, list | tuple):
            yield from ((name, index) for index, each in enumerate(found) if each == value)


_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    **{f"Conv{dims}d": ("groups",) for dims in (1, 2, 3)},
    **{f"ConvTranspose{dims}d": ("groups",) for dims in (1, 2, 3)},
    "GroupNorm": ("num_groups", "num_channels"),
    "LayerNorm": ("normalized_shape",),
    "RMSNorm": ("normalized_shape",),
    "Unflatten": ("unflattened_size",),
    "ChannelShuffle": ("groups",),
    "MultiheadAttention": ("embed_dim", "num_heads", "head_dim"),
    **dict.fromkeys(("Linear", "Embedding", "PReLU", "LSTM", "GRU", "RNN", "Bilinear", "LSTMCell", "GRUCell"), ()),
}
"""Attributes of torch's layers in which constants may come from, beyond those that follow their weights."""


def fits(module: nn.Module) -> dict[tuple[str, str], Any]:
    """(path, name) -> the value that the weights call for, of all attributes that follow weights."""
    return {(path, name): value for path, part in module.named_modules() for name, value in _fits(part)}


def _fits(part: nn.Module) -> Iterator[tuple[str, Any]]:
    for kinds, function in _FITS:
        if isinstance(part, kinds) if not isinstance(kinds, str) else type(part).__name__ == kinds:
            with torch.no_grad():
                for name, value in function(part).items():
                    if editable(part, name) is not None:
                        yield name, value
            return


def _shape(part: nn.Module, *names: str) -> tuple[int, ...]:
    """Of the first of these tensors that there is; () without any."""
    for name in names:
        found = getattr(part, name, None)
        if isinstance(found, Tensor):
            return tuple(found.shape)
    return ()


def _sizes(names: Sequence[str], *tensors: str) -> Callable[[Any], dict[str, Any]]:
    """Attributes that are the first dimensions of a tensor."""
    return lambda part: dict(zip(names, _shape(part, *tensors), strict=False))


def _convolution(part: Any) -> dict[str, Any]:
    out, within = part.weight.shape[:2]
    return {"out_channels": out, "in_channels": within * part.groups}


def _transposed(part: Any) -> dict[str, Any]:
    channels, within = part.weight.shape[:2]
    return {"in_channels": channels, "out_channels": within * part.groups}


def _layer_norm(part: Any) -> dict[str, Any]:
    shape = _shape(part, "weight")
    return {"normalized_shape": shape} if shape else {}


def _recurrent(part: Any) -> dict[str, Any]:
    weight = "weight_ih_l0" if isinstance(part, nn.RNNBase) else "weight_ih"
    recurrent = "weight_hh_l0" if isinstance(part, nn.RNNBase) else "weight_hh"
    return {"input_size": getattr(part, weight).shape[1], "hidden_size": getattr(part, recurrent).shape[1]}


def _attention(part: Any) -> dict[str, Any]:
    width = _shape(part, "in_proj_weight", "q_proj_weight")[1]
    key, value = (_shape(part, name, "in_proj_weight")[1] for name in ("k_proj_weight", "v_proj_weight"))
    return {"embed_dim": width, "kdim": key, "vdim": value}


_FITS: tuple[tuple[Any, Callable[[Any], dict[str, Any]]], ...] = (
    ((nn.Linear,), _sizes(("out_features", "in_features"), "weight")),
    ((nn.modules.conv._ConvTransposeNd,), _transposed),
    ((nn.modules.conv._ConvNd,), _convolution),
    ((nn.modules.batchnorm._NormBase,), _sizes(("num_features",), "weight", "running_mean")),
    ((nn.LayerNorm, nn.RMSNorm), _layer_norm),
    ((nn.GroupNorm,), _sizes(("num_channels",), "weight")),
    ((nn.Embedding, nn.EmbeddingBag), _sizes(("num_embeddings", "embedding_dim"), "weight")),
    ((nn.PReLU,), _sizes(("num_parameters",), "weight")),
    ((nn.Bilinear,), _sizes(("out_features", "in1_features", "in2_features"), "weight")),
    ((nn.RNNBase, nn.RNNCellBase), _recurrent),
    ((nn.MultiheadAttention,), _attention),
    ("Conv1D", _sizes(("nx", "nf"), "weight")),  # of transformers
)


def read_by(module: nn.Module, run: Callable[[], object]) -> Reads:
    """What `run`, a forward pass, reads of each module's sizes; their classes are exchanged while it runs."""
    seen: set[tuple[int, str]] = set()
    before = [(part, type(part)) for part in module.modules()]
    watching: dict[type, type] = {}
    try:
        for part, kind in before:
            if not kind.__module__.startswith("torch.nn."):
                part.__class__ = watching.setdefault(kind, _watching(kind, seen))
        run()
    finally:
        for part, kind in before:
            part.__class__ = kind
    return frozenset(seen)


def _watching(kind: type, seen: set[tuple[int, str]]) -> type:
    def get(self: Any, name: str) -> Any:
        found = super(made, self).__getattribute__(name)
        if type(found) is int or isinstance(found, list | tuple):
            seen.add((id(self), name))
        return found

    made: type = type(kind.__name__, (kind,), {"__getattribute__": get, "__module__": kind.__module__})
    return made


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
