"""Which tensors may go: the selection's rules, and what the structure can take. With errors where nothing is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import UsageError
from modelopt_cli.pruning.selection import Selection, select, unmatched

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
) -> Selection:
    """`select`, less the tensors with whose shape the structure has a `problem`. `where`: what holds the tensors.

    Raises UsageError when a glob matches nothing or nothing may go.
    """
    for pattern in unmatched(tensors, [*include, *exclude]):
        names = ", ".join(list(tensors)[:5])
        raise UsageError(f"'{pattern}' matches no tensor of {where}; its names are: {names}, ...")
    found = select(tensors, include=include, exclude=exclude, everything=everything, bare=bare)
    taken = []
    for name in found.taken:
        reason = problem(tuple(tensors[name].shape))
        if reason is None:
            taken.append(name)
        else:
            found.spared[name] = reason
    if not taken:
        rules = "; ".join(f"{count} tensors: {rule}" for rule, count in Counter(found.spared.values()).items())
        raise UsageError(
            f"nothing in {where} is to be pruned ({rules or 'it holds no tensors'}); include tensors, or take all"
        )
    return Selection(taken, found.spared)
