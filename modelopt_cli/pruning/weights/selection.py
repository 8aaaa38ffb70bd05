"""Which tensors of a state dict are pruned, and by which rule each of the others is spared.

Without the model's code, names and shapes are all there is to go by. By default tensors of two or more dimensions are
taken, but for those whose names say embedding, norm, position, token or constant, those of one value an output
(gains, scales), and the last matrix of a bare file (the output layer).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.duplicates import memory_of

if TYPE_CHECKING:
    from torch import Tensor

NOT_FINITE = "holds values that are not finite"
NOT_DENSE = "not dense floating-point numbers"
FEW_AXES = "fewer than two dimensions"
_TOKENS = ("token", "tokens", "register", "registers", "latents", "queries")
_CONSTANTS = ("mask", "masks", "anchors", "basis", "freqs", "log", "logs", "decay")
_MATRICES = ("weight", "weight_v", "weight_orig", "original", "original1", "kernel")
_OUTPUT = ("head", "classifier", "logits")
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Selection:
    """`taken`: names whose weights may go, tied ones once. `spared`: the others' names -> the rule."""

    taken: list[str] = field(default_factory=list)
    spared: dict[str, str] = field(default_factory=dict)


def choose(
    tensors: Mapping[str, Tensor],
    problem: Callable[[tuple[int, ...]], str | None],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    everything: bool = False,
    bare: bool = True,
    where: str,
    apart: Mapping[str, str] = MappingProxyType({}),
) -> Selection:
    """`select`, less the tensors with whose shape the structure has a `problem`. `where`: what holds the tensors.
    `apart`: see `select`.

    Raises UsageError when a glob matches nothing or nothing may go.
    """
    for pattern in unmatched(tensors, [*include, *exclude]):
        names = ", ".join(list(tensors)[:5])
        raise UsageError(f"'{pattern}' matches no tensor of {where}; its names are: {names}, ...")
    selection = select(tensors, include=include, exclude=exclude, everything=everything, bare=bare, apart=apart)
    taken = []
    for name in selection.taken:
        reason = problem(tuple(tensors[name].shape))
        if reason is None:
            taken.append(name)
        else:
            selection.spared[name] = reason
    if not taken:
        advice = _advice(tensors, selection.spared)
        rules = "; ".join(f"{count} tensors: {rule}" for rule, count in Counter(selection.spared.values()).items())
        raise UsageError(f"nothing in {where} is to be pruned ({rules or 'it holds no tensors'}); {advice}")
    return Selection(taken, selection.spared)


def select(
    tensors: Mapping[str, Tensor],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    everything: bool = False,
    bare: bool = True,
    apart: Mapping[str, str] = MappingProxyType({}),
) -> Selection:
    """Apply the rules. `include` and `exclude` are globs over names; what is included is spared by no other rule.

    `apart`: names that are spared whatever is asked for -> the rule.
    """
    spared: dict[str, str] = {}
    taken: list[str] = []
    for name, tensor in tensors.items():
        rule = apart.get(name) or _unusable(tensor) or _by_glob(name, include, exclude)
        if rule is None and not include and not everything:
            rule = _by_name(name, tensor)
        if rule is None:
            taken.append(name)
        else:
            spared[name] = rule
    if bare and not include and not everything and len(taken) > 1:
        spared[taken.pop(_output(taken))] = "the last matrix (the output layer, most likely)"
    return _without_ties(tensors, taken, spared)


def unmatched(tensors: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The globs that match no name."""
    names = list(tensors)
    return [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)]


def _unusable(tensor: Tensor) -> str | None:
    if tensor.layout != torch.strided or tensor.is_nested or tensor.dtype not in _DTYPES:
        what = "nested" if tensor.is_nested else tensor.dtype if tensor.layout == torch.strided else tensor.layout
        return f"{NOT_DENSE} ({str(what).removeprefix('torch.')})"
    if not tensor.numel():
        return "holds no values"
    if _overlaps(tensor):
        return "its elements share memory"
    return None if _finite(tensor.detach()) else NOT_FINITE


def _overlaps(tensor: Tensor) -> bool:
    """Whether two elements may lie in one place: an axis steps no further than the ones within it reach."""
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride <= reach:
            return True
        reach += stride * (size - 1)
    return False


def _finite(tensor: Tensor) -> bool:
    """Without a copy: NaN is passed on by the least and the largest value."""
    return not tensor.numel() or all(bool(torch.isfinite(end)) for end in tensor.aminmax())


def _by_glob(name: str, include: Sequence[str], exclude: Sequence[str]) -> str | None:
    if any(fnmatchcase(name, pattern) for pattern in exclude):
        return "excluded"
    if include and not any(fnmatchcase(name, pattern) for pattern in include):
        return "not included"
    return None


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) if word]


def _output(names: Sequence[str]) -> int:
    """The number of the last one whose name says that it makes the output, else of the last: files may be sorted."""
    outputs = [number for number, name in enumerate(names) if any(word in _OUTPUT for word in _words(name))]
    return outputs[-1] if outputs else len(names) - 1


def _by_name(name: str, tensor: Tensor) -> str | None:
    if tensor.dim() < 2:
        return FEW_AXES
    words = _words(name)
    if any(word.startswith("emb") or "embed" in word or word in ("wte", "wpe") for word in words):
        return "its name says embedding"
    if any("norm" in word or word in ("bn", "ln") for word in words):
        return "its name says norm"
    if any(word in ("pos", "position", "positions", "positional", "rotary", "rope") for word in words):
        return "its name says position"
    leaf = name.rpartition(".")[2]
    last = (_words(leaf) or [""])[-1]
    if last in _TOKENS or (last in ("query", "probe", "prompt") and tensor.shape[0] == 1):
        return "its name says token"
    if leaf not in _MATRICES and set(_words(leaf)) & set(_CONSTANTS):
        return "its name says constant"
    if sum(extent > 1 for extent in tensor.shape) <= 1 and not (_is_row(tensor) and leaf in _MATRICES):
        return "one value an output (a gain or scale)"
    return None


def _is_row(tensor: Tensor) -> bool:
    """The matrix of a layer of one output: a value an input."""
    return tensor.dim() == 2 and tensor.shape[0] == 1


def _without_ties(tensors: Mapping[str, Tensor], taken: Sequence[str], spared: dict[str, str]) -> Selection:
    """Tied weights go together: spared when one of them is, else counted once."""
    held = {memory_of(tensors[name]): name for name in spared}
    first: dict[tuple[object, ...], str] = {}
    for name in taken:
        key = memory_of(tensors[name])
        if key in held:
            spared[name] = f"tied to {held[key]}, which is spared"
        elif key in first:
            spared[name] = f"tied to {first[key]}, and pruned with it"
        else:
            first[key] = name
    return Selection(list(first.values()), {name: spared[name] for name in tensors if name in spared})


def _advice(tensors: Mapping[str, Tensor], spared: Mapping[str, str]) -> str:
    """What to do where nothing is taken."""
    dense = [name for name, rule in spared.items() if not rule.startswith(NOT_DENSE) and rule != FEW_AXES]
    not_dense = [tensors[name].dtype for name, rule in spared.items() if rule.startswith(NOT_DENSE)]
    other = sorted({str(dtype).removeprefix("torch.") for dtype in not_dense if dtype.is_floating_point})
    if other and not dense:
        return f"its matrices are {' and '.join(other)}: convert them first, e.g. tensor.to(torch.bfloat16)"
    if not dense and any(rule.startswith(NOT_DENSE) for rule in spared.values()):
        return "its matrices are quantized, or no numbers: prune the model that they were made of"
    return "include tensors, or take all"
