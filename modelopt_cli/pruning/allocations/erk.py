"""Allocation by Erdős–Rényi kernel densities: small tensors stay denser than large ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from modelopt_cli.pruning.allocations import Allocation, SensitivityProbe

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.cuts import Cut


@final
class Erk(Allocation):
    """Erdős–Rényi kernel: a tensor's density follows the sum over the product of its sizes (Evci et al., ICML 2020).

    Small tensors stay denser than large ones; none is denser than whole.
    """

    def cuts(
        self, scores: Mapping[str, Tensor], target: float, probe: SensitivityProbe | None = None
    ) -> dict[str, Cut]:
        """Exactly round(target * n) of all n scores go."""
        from modelopt_cli.pruning.allocations._counts import cut_to, whole_numbers
        from modelopt_cli.pruning.common.cuts import block_sizes

        shapes = {name: tuple(score.shape) for name, score in scores.items()}
        sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        block = block_sizes(scores)
        density = densities(shapes, 1.0 - target, block)
        wanted = {name: sizes[name] * (1.0 - density[name]) for name in sizes}
        return cut_to(scores, whole_numbers(wanted, sizes, target, block))


def densities(
    shapes: Mapping[str, tuple[int, ...]], density: float, block_sizes: Mapping[str, int] | None = None
) -> dict[str, float]:
    """The share that stays of each tensor, so that `density` of all together stays: min(1, e * sum / product).

    `block_sizes`: what one score of each counts for; 1 without.
    """
    counts = {name: math.prod(shape) for name, shape in shapes.items()}
    sizes = {name: count * (1 if block_sizes is None else block_sizes[name]) for name, count in counts.items()}
    raw = {name: sum(shape) / counts[name] for name, shape in shapes.items() if counts[name]}
    whole: set[str] = {name for name, size in sizes.items() if not size}
    kept = density * sum(sizes.values())
    while len(whole) < len(shapes):
        rest = [name for name in shapes if name not in whole]
        scale = (kept - sum(sizes[name] for name in whole)) / sum(raw[name] * sizes[name] for name in rest)
        full = {name for name in rest if scale * raw[name] >= 1.0}
        if not full:
            return {name: 1.0 if name in whole else max(0.0, scale * raw[name]) for name in shapes}
        whole |= full
    return dict.fromkeys(shapes, 1.0)
