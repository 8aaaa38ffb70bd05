"""Which tensors may go: the selection's rules, and what the structure can take. With errors where nothing is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import UsageError
from modelopt_cli.pruning.common.selection import FEW_AXES, NOT_DENSE, Selection, select, unmatched

if TYPE_CHECKING:
    from torch import Tensor


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
    found = select(tensors, include=include, exclude=exclude, everything=everything, bare=bare, apart=apart)
    taken = []
    for name in found.taken:
        reason = problem(tuple(tensors[name].shape))
        if reason is None:
            taken.append(name)
        else:
            found.spared[name] = reason
    if not taken:
        advice = _advice(tensors, found.spared)
        rules = "; ".join(f"{count} tensors: {rule}" for rule, count in Counter(found.spared.values()).items())
        raise UsageError(f"nothing in {where} is to be pruned ({rules or 'it holds no tensors'}); {advice}")
    return Selection(taken, found.spared)


def _advice(tensors: Mapping[str, Tensor], spared: Mapping[str, str]) -> str:
    """What to do where nothing is taken."""
    dense = [name for name, rule in spared.items() if not rule.startswith(NOT_DENSE) and rule != FEW_AXES]
    other = sorted({str(tensors[name].dtype).removeprefix("torch.") for name, rule in spared.items()
                    if rule.startswith(NOT_DENSE) and tensors[name].dtype.is_floating_point})  # fmt: skip
    if other and not dense:
        return f"its matrices are {' and '.join(other)}: convert them first, e.g. tensor.to(torch.bfloat16)"
    if not dense and any(rule.startswith(NOT_DENSE) for rule in spared.values()):
        return "its matrices are quantized, or no numbers: prune the model that they were made of"
    return "include tensors, or take all"
