"""Greedy elimination of groups of columns by the optimal brain surgeon, for all layers that take the same units."""

from __future__ import annotations

import torch
from torch import Tensor

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.work import tell
from modelopt_cli.pruning.common.inverse import damped, inverse
from modelopt_cli.pruning.common.units import Units


class _Layer:
    """A consumer while its columns go: the weights that are left, and the inverse Hessian of what is left."""

    def __init__(self, matrix: Tensor, gram: Tensor, columns: Tensor, damping: float) -> None:
        self.weight = matrix.double().cpu().clone()  # (out, in)
        self.inverse = inverse(damped(gram, damping))  # (in, in)
        self.columns = columns  # (n, c)

    def costs(self, left: Tensor) -> Tensor:
        """(m,) what is lost without each of the units `left`, half the squared error per row of inputs."""
        columns = self.columns[left]  # (m, c)
        blocks = torch.linalg.inv(self.inverse[columns[:, :, None], columns[:, None, :]])  # (m, c, c)
        parts = self.weight[:, columns].movedim(1, 0)  # (m, out, c)
        lost: Tensor = ((parts @ blocks) * parts).sum((1, 2)) / 2.0
        return lost

    def remove(self, unit: int) -> None:
        """The rest makes up for the unit; its columns become 0."""
        columns = self.columns[unit]
        block = torch.linalg.solve(self.inverse[columns][:, columns], self.inverse[columns])  # (c, in)
        self.weight -= self.weight[:, columns] @ block
        self.inverse -= self.inverse[:, columns] @ block
        self.weight[:, columns] = 0.0


def eliminated(units: Units, damping: float) -> Tensor:
    """(n,) what each unit costs in the order in which they go, made monotone; the last one's is infinite."""
    if not units.consumers:
        raise UsageError(
            f"no linear layer or ungrouped convolution takes the units of {units.name}, so what they are worth to it "
            "cannot be told; leave them out with pruning.exclude, or use another importance, such as l2"
        )
    layers = [_Layer(each.matrix, each.gram, each.columns, damping) for each in units.consumers]
    left = torch.arange(units.size)
    scores = torch.full((units.size,), torch.inf, dtype=torch.float64)
    highest = 0.0
    while len(left) > 1:
        tell(f"units of {units.name} ranked", units.size - len(left), units.size)
        costs = torch.stack([layer.costs(left) for layer in layers]).sum(0)
        cheapest = int(costs.argmin())
        unit = int(left[cheapest])
        highest = max(highest, float(costs[cheapest]))
        scores[unit] = highest
        for layer in layers:
            layer.remove(unit)
        left = torch.cat([left[:cheapest], left[cheapest + 1 :]])
    finite = scores[scores.isfinite()]
    scores[left] = 2.0 * (float(finite.max()) if len(finite) else 1.0) + 1.0
    return scores
