"""Cuts with a floor: what an allocation says, but for a least share of every tensor that stays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from modelopt_cli.pruning.allocations import Judge
from modelopt_cli.pruning.common.cuts import Cut, lowest
from modelopt_cli.pruning.common.lazy_tensors import Each

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.allocations import Allocation


def allocate(
    allocation: Allocation,
    scores: Mapping[str, Tensor],
    target: float,
    *,
    keep_at_least: float = 0.0,
    judge: Judge | None = None,
    prices: Mapping[str, int] | None = None,
) -> dict[str, Cut]:
    """The allocation's cuts; ceil(`keep_at_least` * n) of each tensor's n scores stay. `prices`: see Allocation.cuts.

    What a tensor at its floor does not give, the others give instead, as long as they can: it is set aside with its
    floor, and the allocation is asked again for the rest, until no other tensor falls below its own.
    """
    priced = {} if prices is None else {"prices": prices}  # an allocation of another package may know no prices
    if keep_at_least <= 0.0:
        return allocation.cuts(scores, target, judge, **priced)
    fixed: dict[str, Cut] = {}
    most = {name: score.numel() - math.ceil(keep_at_least * score.numel()) for name, score in scores.items()}
    worth = {name: 1 if prices is None else prices[name] for name in scores}
    total = sum(score.numel() * worth[name] for name, score in scores.items())
    rest, share = dict(scores), target
    while True:
        cuts = allocation.cuts(rest, share, judge, **priced) if rest else {}
        low = [name for name, cut in cuts.items() if cut.count(rest[name]) > most[name]]
        if not low:
            return {name: fixed.get(name, cuts.get(name, Cut(-math.inf))) for name in scores}
        for name in low:
            fixed[name] = lowest(rest.pop(name), most[name])
        if not allocation.absolute:
            left = sum(score.numel() * worth[name] for name, score in rest.items())
            removed = sum(most[name] * worth[name] for name in fixed)
            share = min(1.0, max(0.0, (target * total - removed) / left)) if left else 0.0


def allocate_weights(
    allocation: Allocation,
    scores: Mapping[str, Tensor],
    weights: Mapping[str, int],
    target: float,
    *,
    keep_at_least: float = 0.0,
    judge: Judge | None = None,
) -> dict[str, Cut]:
    """`allocate` for scores that stand for several weights each (blocks): the target is a share of the weights.

    `weights`: how many each tensor has. Where scores of different tensors stand for different numbers of them, they are
    compared by what they are for one weight: a block of a 3 x 3 convolution holds nine times those of a linear layer's.
    """
    prices = {name: weights[name] // max(1, score.numel()) for name, score in scores.items()}
    if allocation.absolute or len(set(prices.values())) <= 1:
        return allocate(allocation, scores, target, keep_at_least=keep_at_least, judge=judge)
    each = Each(scores, lambda name: scores[name] / prices[name])

    def of_scores(name: str, cut: Cut) -> Cut:
        return lowest(scores[name], cut.count(each[name]))

    scaled = None if judge is None else _ScaledJudge(judge, of_scores)
    cuts = allocate(allocation, each, target, keep_at_least=keep_at_least, judge=scaled, prices=prices)
    return {name: of_scores(name, cut) for name, cut in cuts.items()}


class _ScaledJudge(Judge):
    """A judge of cuts in scores of one weight, where the structure cuts in scores of several."""

    def __init__(self, judge: Judge, of_scores: Callable[[str, Cut], Cut]) -> None:
        self._judge, self._of_scores = judge, of_scores

    def loss(self, name: str, cut: Cut) -> float:
        return self._judge.loss(name, self._of_scores(name, cut))

    def damage(self, name: str, cut: Cut) -> float:
        return self._judge.damage(name, self._of_scores(name, cut))
