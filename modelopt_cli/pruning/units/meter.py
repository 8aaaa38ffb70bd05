"""Sums over calibration batches of what the points of each group show, in float64: one number a unit.

n units of a group, B samples of a batch, S what can be told apart of them in a value: B, or 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from modelopt_cli.pruning.common.units import UnitStatistic
from modelopt_cli.pruning.units.points import Edge, Point

ACTIVITY: frozenset[UnitStatistic] = frozenset(
    {"activation_mean", "activation_nonzero", "activation_variance", "activation_rank"}
)
GRADIENTS: frozenset[UnitStatistic] = frozenset({"activation_gradient", "gate_gradient", "squared_gate_gradient"})


class Meter:
    """What `needs` names of ACTIVITY and GRADIENTS, at the points of each group. `shares`: (B,) what samples count."""

    def __init__(self, points: Mapping[str, Sequence[Point]], needs: frozenset[UnitStatistic]) -> None:
        self.points, self.needs = points, needs
        self.edges: set[Edge] = {(each.node, user) for some in points.values() for each in some for user in each.users}
        self._at: dict[str, list[tuple[str, int, Point]]] = {}  # node -> its points, each with group and number
        for name, some in points.items():
            for number, point in enumerate(some):
                self._at.setdefault(point.node, []).append((name, number, point))
        self._sums: dict[tuple[str, int], dict[str, Tensor]] = {}

    def add_activity(self, node: str, value: Tensor, shares: Tensor) -> None:
        """What a node computed for one batch."""
        if self.needs & ACTIVITY:
            for name, number, point in self._at[node]:
                rows = point.rows(value, len(shares))  # (n, S, ...)
                for moment, each in self._moments(point, rows):
                    self._add(name, number, moment, each, shares)

    def _moments(self, point: Point, rows: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Names and (n, S) numbers."""
        flat = rows.flatten(1).view(*rows.shape[:2], -1).double()  # (n, S, positions)
        if "activation_mean" in self.needs:
            yield "activation_mean", flat.abs().mean(2)
        if "activation_nonzero" in self.needs:
            yield "activation_nonzero", (flat != 0).double().mean(2)
        if "activation_variance" in self.needs:
            yield "mean", flat.mean(2)
            yield "square", flat.square().mean(2)
        if "activation_rank" in self.needs and (point.samples is not None or point.constant):
            yield "activation_rank", _rank(rows)

    def add_gradients(self, name: str, gates: Tensor, slopes: Sequence[Tensor], shares: Tensor) -> None:
        """Of a group for one batch: (n, B) dL_i/dm, and for each point (n, B) the mean over positions of |dL_i/da|."""
        self._add(name, 0, "gate_gradient", gates.abs(), shares)
        self._add(name, 0, "squared_gate_gradient", gates.square(), shares)
        for number, each in enumerate(slopes):
            self._add(name, number, "activation_gradient", each, shares)

    def _add(self, name: str, number: int, moment: str, each: Tensor, shares: Tensor) -> None:
        """`each`: (n, S)."""
        shares = shares.to(each.device)
        mean = each @ (shares if each.shape[1] == len(shares) else shares.sum()[None])
        sums = self._sums.setdefault((name, number), {})
        sums[moment] = sums[moment] + mean if moment in sums else mean

    def values(self) -> dict[str, dict[UnitStatistic, Tensor]]:
        """Group's name -> statistic -> (n,), the mean over points."""
        found: dict[str, dict[UnitStatistic, Tensor]] = {name: {} for name in self.points}
        for name, points in self.points.items():
            sums = [self._sums[name, number] for number in range(len(points)) if (name, number) in self._sums]
            for each in sums:
                if "square" in each:
                    each["activation_variance"] = (each["square"] - each["mean"].square()).clamp_min(0.0)
            for statistic in sorted(self.needs & (ACTIVITY | GRADIENTS)):
                seen = [each[statistic] for each in sums if statistic in each]
                if seen:
                    found[name][statistic] = torch.stack(seen).mean(0)
        return found


def _rank(rows: Tensor) -> Tensor:
    """(n, S) the rank of what lies in the last two dimensions that are no 1, over all others the mean of it."""
    sizes = [size for size in rows.shape[2:] if size > 1]
    maps = rows.reshape(*rows.shape[:2], *sizes).to(torch.promote_types(rows.dtype, torch.float32))
    if len(sizes) < 2:  # a number or a vector has rank 1, or 0 where it is zero
        return (maps != 0).view(*rows.shape[:2], -1).any(2).double()
    ranks: Tensor = torch.linalg.matrix_rank(maps)
    return ranks.double().view(*rows.shape[:2], -1).mean(2)
