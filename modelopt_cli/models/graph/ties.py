"""Groups that can only lose equal shares of their units."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from modelopt_cli.models.graph.axes import Mask, Prime
from modelopt_cli.models.graph.groups import Group

Bundle = tuple[Group, ...]
"""Groups that lose units by the same share; most often one alone."""


def tied_counts(sizes: Sequence[int], share: float) -> list[int]:
    """How many units of groups of these sizes go, that are tied: equal shares of each, next to `share`.

    Never all, so none where the sizes have no common divisor.
    """
    steps = math.gcd(*sizes)
    going = min(max(round(steps * share), 0), steps - 1)
    return [going * size // steps for size in sizes]


def connected(groups: Sequence[Group], joined: Iterable[Collection[str]]) -> list[Bundle]:
    """Components of the groups, of which each set in `joined` belongs together."""
    component = {group.name: {group.name} for group in groups}
    for names in joined:
        ours = [name for name in names if name in component]
        union = set().union(*(component[name] for name in ours))
        for name in union:
            component[name] = union
    bundles: dict[int, list[Group]] = {}
    for group in groups:
        bundles.setdefault(id(component[group.name]), []).append(group)
    return [tuple(bundle) for bundle in bundles.values()]


def losing(bundle: Sequence[Group], share: float, generator: np.random.Generator | None = None) -> dict[Prime, Mask]:
    """Masks without about this share of each, at least one where the ties let it; at random, or the first."""
    sizes = [group.size for group in bundle]
    steps = math.gcd(*sizes)
    masks: dict[Prime, Mask] = {}
    for group, going in zip(bundle, tied_counts(sizes, max(share, 1 / steps)), strict=True):
        order = np.arange(group.size) if generator is None else generator.permutation(group.size)
        mask = np.ones(group.size, dtype=np.bool_)
        mask[order[:going]] = False
        masks[group.prime] = mask
    return masks
