"""From shares that a rule gives each tensor to whole numbers that add up to the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.cuts import Cut


def whole_numbers(wanted: Mapping[str, float], sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Numbers next to `wanted`, each from 0 to its size, that sum to `total`: largest remainders first."""
    found = {name: min(sizes[name], max(0, int(wanted[name]))) for name in wanted}
    missing = total - sum(found.values())
    step = 1 if missing > 0 else -1
    order = sorted(wanted, key=lambda name: step * (found[name] - wanted[name]))
    while missing:
        moved = 0
        for name in order:
            if missing and 0 <= found[name] + step <= sizes[name]:
                found[name], missing, moved = found[name] + step, missing - step, moved + 1
        if not moved:
            break
    return found


def cut_to(scores: Mapping[str, Tensor], removed: Mapping[str, int]) -> dict[str, Cut]:
    """Each tensor's lowest `removed` scores go."""
    from modelopt_cli.pruning.cuts import lowest

    return {name: lowest(score, removed[name]) for name, score in scores.items()}
