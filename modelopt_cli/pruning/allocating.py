"""Cuts with a floor: what an allocation says, but for a least share of every tensor that stays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from modelopt_cli.pruning.cuts import Cut, lowest

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.allocations import Allocation, Judge


def allocate(
    allocation: Allocation,
    scores: Mapping[str, Tensor],
    target: float,
    *,
    keep_at_least: float = 0.0,
    judge: Judge | None = None,
) -> dict[str, Cut]:
    """The allocation's cuts; ceil(`keep_at_least` * n) of each tensor's n scores stay.

    What a tensor at its floor does not give, the others give instead, as long as they can: it is set aside with its
    floor, and the allocation is asked again for the rest, until no other tensor falls below its own.
    """
    if keep_at_least <= 0.0:
        return allocation.cuts(scores, target, judge)
    fixed: dict[str, Cut] = {}
    most = {name: score.numel() - math.ceil(keep_at_least * score.numel()) for name, score in scores.items()}
    total = sum(score.numel() for score in scores.values())
    rest, share = dict(scores), target
    while True:
        cuts = allocation.cuts(rest, share, judge) if rest else {}
        low = [name for name, cut in cuts.items() if cut.count(rest[name]) > most[name]]
        if not low:
            return {name: fixed.get(name, cuts.get(name, Cut(-math.inf))) for name in scores}
        for name in low:
            fixed[name] = lowest(rest.pop(name), most[name])
        if not allocation.absolute:
            left = sum(score.numel() for score in rest.values())
            removed = sum(most[name] for name in fixed)
            share = min(1.0, max(0.0, (target * total - removed) / left)) if left else 0.0
