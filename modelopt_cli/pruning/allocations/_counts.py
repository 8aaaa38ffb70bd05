"""From shares that an allocation gives each tensor to whole numbers that add up to the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.cuts import Cut


def whole_numbers(
    wanted: Mapping[str, float], sizes: Mapping[str, int], share: float, block_sizes: Mapping[str, int]
) -> dict[str, int]:
    """Numbers next to `wanted`, each from 0 to its size, that are `share` of all sizes: largest remainders first.

    `block_sizes`: what one of each counts for; where that is not 1 the sum is the nearest that steps of one reach.
    """
    counts = {name: min(sizes[name], max(0, int(wanted[name]))) for name in wanted}
    total = round(share * sum(sizes[name] * block_sizes[name] for name in sizes))
    missing = total - sum(counts[name] * block_sizes[name] for name in counts)
    step = 1 if missing > 0 else -1
    order = sorted(wanted, key=lambda name: step * (counts[name] - wanted[name]))
    while missing:
        moved = False
        for name in order:
            nearer = abs(missing - step * block_sizes[name]) < abs(missing)
            if nearer and 0 <= counts[name] + step <= sizes[name]:
                counts[name], missing, moved = counts[name] + step, missing - step * block_sizes[name], True
        if not moved:
            break
    return counts


def cut_to(scores: Mapping[str, Tensor], removed: Mapping[str, int]) -> dict[str, Cut]:
    """Each tensor's lowest `removed` scores go."""
    from modelopt_cli.pruning.common.cuts import lowest

    return {name: lowest(score, removed[name]) for name, score in scores.items()}
