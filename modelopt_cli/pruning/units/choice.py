"""From a share of units to masks, and from a budget to a share: bisection over what the masks would cost.

What a group does not give (a limit, its last unit, a rounding, a tie), the others give instead, as long as they can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modelopt_cli.models.graph.axes import Prime

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


def near(
    wanted: int,
    share: float,
    masks: Callable[[float], Masks],
    ranks: Masks,
    whole: Collection[str] = (),
    steps: Mapping[str, int] | None = None,
) -> Masks:
    """The masks of `share`; where they remove fewer than `wanted` units, those of the least share that removes as many.

    The rest is as in `within`. Without groups in `whole` exactly `wanted` go, or all that may;
    with such groups the masks of `share` stand where they are nearer.
    """
    found = masks(share)
    missing = wanted - gone(found)
    if missing <= 0:
        return found
    size = sum(mask.numel() for mask in found.values())
    more = within(lambda tried: size - gone(tried), masks, size - wanted, ranks, whole, steps) or masks(1.0)
    return more if gone(more) - wanted <= missing else found


def gone(masks: Masks) -> int:
    """Units that go."""
    return sum(int((~mask).sum()) for mask in masks.values())


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
    high = masks(1.0)
    if cost(high) > limit:
        return None
    low = masks(0.0)
    if cost(low) <= limit:
        return low
    left, right = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (left + right) / 2
        found = masks(middle)
        if cost(found) <= limit:
            right, high = middle, found
        else:
            left, low = middle, found
    free = [name for name in high if name not in whole]
    found = _filled(cost, high, {name: low[name] for name in free}, limit, ranks)
    return _topped_up(cost, found, dict.fromkeys(free, 1) | dict(steps or {}), limit, ranks)


def _filled(cost: Callable[[Masks], float], high: Masks, low: Masks, limit: float, ranks: Masks) -> Masks:
    """Put back what only the last step took, group by group, the best first, as long as the limit holds."""
    found = {name: mask.clone() for name, mask in high.items()}
    changed = [name for name in low if bool((low[name] & ~high[name]).any())]
    changed.sort(key=lambda name: -float(ranks[name][low[name] & ~high[name]].max()))
    for name in changed:
        tried = {**found, name: low[name]}
        if cost(tried) <= limit:
            found = tried
            continue
        places = (low[name] & ~high[name]).nonzero()[:, 0]
        for place in places[ranks[name][places].argsort(descending=True)].tolist():
            mask = found[name].clone()
            mask[place] = True
            if cost({**found, name: mask}) > limit:
                break
            found[name] = mask
    return found


def _topped_up(
    cost: Callable[[Masks], float], masks: Masks, steps: Mapping[str, int], limit: float, ranks: Masks
) -> Masks:
    """Put back units of these groups, so many at a time, the best first, until none fit; a share may be a wide step."""
    found = dict(masks)
    best = {name: ranks[name].masked_fill(found[name], -torch.inf) for name in steps}
    while best:
        name = max(best, key=lambda each: float(best[each].max()))
        values, places = best[name].topk(min(steps[name], best[name].numel()))
        places = places[values > -math.inf]
        mask = found[name].clone()
        mask[places] = True
        if not len(places) or cost({**found, name: mask}) > limit:
            del best[name]
        else:
            found[name] = mask
            best[name][places] = -torch.inf
    return found


def tied(masks: Masks, ranks: Masks, ties: Sequence[frozenset[str]]) -> dict[str, Tensor]:
    """Groups of a tie keep the same share of their units: that of the one that keeps most."""
    found = dict(masks)
    for tie in ties:
        names = [name for name in tie if name in masks]
        if len(names) < 2:
            continue
        steps = math.gcd(*(masks[name].numel() for name in names))
        gone = min(math.floor(steps * (1.0 - float(masks[name].double().mean())) + 1e-9) for name in names)
        for name in names:
            count = (steps - gone) * masks[name].numel() // steps
            mask = torch.zeros_like(masks[name])
            mask[ranks[name].argsort(descending=True, stable=True)[:count]] = True
            found[name] = mask
    return found
