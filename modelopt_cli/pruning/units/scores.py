"""Scores of units made comparable between groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from modelopt_cli.models.graph.analysis import Analysis
from modelopt_cli.models.graph.groups import Group

Normalize = Literal["none", "mean", "max", "rank", "isomorphic"]


def comparable(scores: Mapping[str, Tensor], how: Normalize, kinds: Mapping[str, object]) -> dict[str, Tensor]:
    """Scores (n,) of each group, of what is gone -inf. `kinds`: equal for groups that are built alike.

    `rank` and `isomorphic` give ranks in (0, 1], of the group or of all groups of its kind (Fang et al., ECCV 2024).
    """
    if how == "none":
        return {name: score.double() for name, score in scores.items()}
    if how in ("rank", "isomorphic"):
        kind = {name: (kinds[name] if how == "isomorphic" else name) for name in scores}
        return _ranked(scores, kind)
    return {name: _scaled(score.double(), how) for name, score in scores.items()}


def kind_of(group: Group, analysis: Analysis) -> tuple[object, ...]:
    """Equal for groups with the same places: sizes of their tensors, which dimension, made or taken there."""
    shapes = {name: tuple(axis.size for axis in dims) for name, dims in analysis.tensors.items()}
    return tuple(sorted((shapes[place.tensor], place.dim, place.producer) for place in group.places))


def _scaled(score: Tensor, how: str) -> Tensor:
    there = score[score.isfinite()]
    if not there.numel():
        return score
    scale = there.abs().mean() if how == "mean" else there.abs().max()
    return score / scale if float(scale) > 0 else score


def _ranked(scores: Mapping[str, Tensor], kind: Mapping[str, object]) -> dict[str, Tensor]:
    found = {name: score.double().clone() for name, score in scores.items()}
    for each in dict.fromkeys(kind.values()):
        names = [name for name in scores if kind[name] == each]
        joined = torch.cat([found[name] for name in names])
        there = joined.isfinite()
        order = joined[there].argsort(stable=True).argsort(stable=True)
        ranks = (order + 1).double() / max(int(there.sum()), 1)
        joined[there] = ranks.to(joined.dtype)
        for name, part in zip(names, torch.split(joined, [found[name].numel() for name in names]), strict=True):
            found[name] = part
    return found
