"""Which tensors of a state dict are pruned, and by which rule each of the others is spared.

Without the model's code, names and shapes are all there is to go by. By default tensors of two or more dimensions are
taken, but for those whose names say embedding, norm or position, and the last matrix of a bare file (the output layer).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch

from modelopt_cli.models.measure import place

if TYPE_CHECKING:
    from torch import Tensor

NOT_FINITE = "holds values that are not finite"
_OUTPUT = ("head", "classifier", "logits")
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Selection:
    """`taken`: names whose weights may go, tied ones once. `spared`: the others' names -> the rule."""

    taken: list[str] = field(default_factory=list)
    spared: dict[str, str] = field(default_factory=dict)


def select(
    tensors: Mapping[str, Tensor],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    everything: bool = False,
    bare: bool = True,
) -> Selection:
    """Apply the rules. `include` and `exclude` are globs over names; what is included is spared by no other rule."""
    spared: dict[str, str] = {}
    taken: list[str] = []
    for name, tensor in tensors.items():
        rule = _unusable(tensor) or _by_glob(name, include, exclude)
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
    if tensor.layout != torch.strided or tensor.dtype not in _DTYPES:
        return "not dense floating-point numbers"
    if any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)):
        return "its elements share memory"
    return None if _finite(tensor.detach()) else NOT_FINITE


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
    """The place of the last one whose name says that it makes the output, else of the last: files may be sorted."""
    told = [place for place, name in enumerate(names) if any(word in _OUTPUT for word in _words(name))]
    return told[-1] if told else len(names) - 1


def _by_name(name: str, tensor: Tensor) -> str | None:
    if tensor.dim() < 2:
        return "fewer than two dimensions"
    words = _words(name)
    if any(word.startswith("emb") or "embed" in word or word in ("wte", "wpe") for word in words):
        return "its name says embedding"
    if any("norm" in word or word in ("bn", "ln") for word in words):
        return "its name says norm"
    if any(word in ("pos", "position", "positions", "positional", "rotary", "rope") for word in words):
        return "its name says position"
    return None


def _without_ties(tensors: Mapping[str, Tensor], taken: Sequence[str], spared: dict[str, str]) -> Selection:
    """Tied weights go together: spared when one of them is, else counted once."""
    held = {place(tensors[name]): name for name in spared}
    first: dict[tuple[object, ...], str] = {}
    for name in taken:
        key = place(tensors[name])
        if key in held:
            spared[name] = f"tied to {held[key]}, which is spared"
        elif key in first:
            spared[name] = f"tied to {first[key]}, and pruned with it"
        else:
            first[key] = name
    return Selection(list(first.values()), {name: spared[name] for name in tensors if name in spared})
