"""From shares that a rule gives each tensor to whole numbers that add up to the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.cuts import Cut


def whole_numbers(
    wanted: Mapping[str, float], sizes: Mapping[str, int], share: float, prices: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Numbers next to `wanted`, each from 0 to its size, that are `share` of all sizes: largest remainders first.

    `prices`: what one of each counts for; the sum is then the nearest to that share of all that steps of one reach.
    """
    worth = {name: 1 if prices is None else prices[name] for name in wanted}
    found = {name: min(sizes[name], max(0, int(wanted[name]))) for name in wanted}
    total = round(share * sum(sizes[name] * worth[name] for name in sizes))
    missing = total - sum(found[name] * worth[name] for name in found)
    step = 1 if missing > 0 else -1
    order = sorted(wanted, key=lambda name: step * (found[name] - wanted[name]))
    while missing:
        moved = False
        for name in order:
            nearer = abs(missing - step * worth[name]) < abs(missing)
            if nearer and 0 <= found[name] + step <= sizes[name]:
                found[name], missing, moved = found[name] + step, missing - step * worth[name], True
        if not moved:
            break
    return found


def cut_to(scores: Mapping[str, Tensor], removed: Mapping[str, int]) -> dict[str, Cut]:
    """Each tensor's lowest `removed` scores go."""
    from modelopt_cli.pruning.common.cuts import lowest

    return {name: lowest(score, removed[name]) for name, score in scores.items()}
