"""Which units stay, as masks: from a share of units to masks, and from a budget to a share.

What a group does not give (a limit, its last unit, a rounding, a tie), the others give instead, as long as they can.
A budget is met by bisection over what the masks would cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modelopt_cli.models.graph.axes import Mask, Prime
from modelopt_cli.models.graph.groups import Group
from modelopt_cli.models.graph.network import Network

Masks = Mapping[str, Tensor]
"""Group's name -> (n,) True stays."""

_STEPS = 40


@dataclass(frozen=True)
class Limit:
    """What may be left: `cost` of units left, at most `most`. `what`, `written`: as the file calls it and has it."""

    what: str
    cost: Callable[[Mapping[Prime, int]], float]
    most: float
    written: str = ""


def left(network: Network, group: Group) -> Mask:
    """(n,) which units of the group are left."""
    return network.held.get(group.prime, np.ones(group.size, dtype=np.bool_))


def standing(network: Network, groups: Iterable[Group], masks: Masks) -> dict[str, Tensor]:
    """Masks in which what is gone stays gone, whatever rounding says."""
    kept = dict(masks)
    for group in groups:
        before = network.held.get(group.prime)
        if before is not None and group.name in kept:
            kept[group.name] = kept[group.name] & torch.from_numpy(before)
    return kept


def by_prime(network: Network, groups: Iterable[Group], masks: Masks) -> dict[Prime, Mask]:
    """Masks by group as masks by prime; of groups without one what is left stays."""
    keep = dict(network.held)
    for group in groups:
        if group.name in masks and not bool(masks[group.name].all()):
            keep[group.prime] = masks[group.name].numpy()
    return keep


def removed(masks: Masks) -> int:
    """Units that go."""
    return sum(int((~mask).sum()) for mask in masks.values())


def near(
    wanted: int,
    share: float,
    masks: Callable[[float], Masks],
    ranks: Masks,
    whole: Collection[str] = (),
    steps: Mapping[str, int] | None = None,
) -> Masks:
    """The masks of `share`; where they remove fewer than `wanted` units, those of the least share that removes as many.

    The rest is as in `within`. Without groups in `whole` exactly `wanted` go, or all that may; with such groups the
    masks of `share` stand where they are nearer.
    """
    kept = masks(share)
    missing = wanted - removed(kept)
    if missing <= 0:
        return kept
    size = sum(mask.numel() for mask in kept.values())
    more = within(lambda tried: size - removed(tried), masks, size - wanted, ranks, whole, steps) or masks(1.0)
    return more if removed(more) - wanted <= missing else kept


def within(
    cost: Callable[[Masks], float],
    masks: Callable[[float], Masks],
    limit: float,
    ranks: Masks,
    whole: Collection[str] = (),
    steps: Mapping[str, int] | None = None,
) -> Masks | None:
    """The masks of the least share whose cost is within the limit, filled up with units that it still has room for.

    `masks` removes more for a larger share. `ranks`: scores, by which what came last within a step is put back first,
    but for the groups in `whole`, of which a step is never taken back in part. `steps`: of these groups so many units
    at a time are put back. None when all shares cost more.
    """
    ends = around(cost, masks, limit)
    if ends is None:
        return None
    low, high = masks(ends[0]), masks(ends[1])
    if cost(low) <= limit:
        return low
    free = [name for name in high if name not in whole]
    filled = _filled(cost, high, {name: low[name] for name in free}, limit, ranks)
    return _topped_up(cost, filled, dict.fromkeys(free, 1) | dict(steps or {}), limit, ranks)


def around(cost: Callable[[Masks], float], masks: Callable[[float], Masks], limit: float) -> tuple[float, float] | None:
    """The last step of a bisection for the least share whose cost is within the limit: (one too little, one enough).

    (0, 0) where nothing need go; None when all shares cost more.
    """
    if cost(masks(1.0)) > limit:
        return None
    if cost(masks(0.0)) <= limit:
        return 0.0, 0.0
    too_little, enough = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (too_little + enough) / 2
        too_little, enough = (too_little, middle) if cost(masks(middle)) <= limit else (middle, enough)
    return too_little, enough


def _filled(cost: Callable[[Masks], float], high: Masks, low: Masks, limit: float, ranks: Masks) -> Masks:
    """Put back what only the last step took, group by group, the best first, as long as the limit holds."""
    kept = {name: mask.clone() for name, mask in high.items()}
    changed = [name for name in low if bool((low[name] & ~high[name]).any())]
    changed.sort(key=lambda name: -float(ranks[name][low[name] & ~high[name]].max()))
    for name in changed:
        tried = {**kept, name: low[name]}
        if cost(tried) <= limit:
            kept = tried
            continue
        units = (low[name] & ~high[name]).nonzero()[:, 0]
        for unit in units[ranks[name][units].argsort(descending=True)].tolist():
            mask = kept[name].clone()
            mask[unit] = True
            if cost({**kept, name: mask}) > limit:
                break
            kept[name] = mask
    return kept


def _topped_up(
    cost: Callable[[Masks], float], masks: Masks, steps: Mapping[str, int], limit: float, ranks: Masks
) -> Masks:
    """Put back units of these groups, so many at a time, the best first, until none fit; a share may be a wide step."""
    kept = dict(masks)
    best = {name: ranks[name].masked_fill(kept[name], -torch.inf) for name in steps}
    while best:
        name = max(best, key=lambda each: float(best[each].max()))
        values, units = best[name].topk(min(steps[name], best[name].numel()))
        units = units[values > -math.inf]
        mask = kept[name].clone()
        mask[units] = True
        if not len(units) or cost({**kept, name: mask}) > limit:
            del best[name]
        else:
            kept[name] = mask
            best[name][units] = -torch.inf
    return kept


def tied(masks: Masks, ranks: Masks, ties: Sequence[frozenset[str]]) -> dict[str, Tensor]:
    """Groups of a tie keep the same share of their units: that of the one that keeps most."""
    kept = dict(masks)
    for tie in ties:
        names = [name for name in tie if name in masks]
        if len(names) < 2:
            continue
        steps = math.gcd(*(masks[name].numel() for name in names))
        taken = min(math.floor(steps * (1.0 - float(masks[name].double().mean())) + 1e-9) for name in names)
        for name in names:
            count = (steps - taken) * masks[name].numel() // steps
            mask = torch.zeros_like(masks[name])
            mask[ranks[name].argsort(descending=True, stable=True)[:count]] = True
            kept[name] = mask
    return kept
