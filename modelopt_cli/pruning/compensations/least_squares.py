"""Least squares."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from pydantic import Field

from modelopt_cli.core.types import Positive
from modelopt_cli.pruning.compensations import Compensated, Compensation
from modelopt_cli.pruning.statistics import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.statistics import Statistics


@final
class LeastSquares(Compensation):
    """Each output's remaining weights, fitted anew to the layer's dense outputs on the calibration samples."""

    needs: ClassVar[Needs] = frozenset({"gram"})

    damping: Positive = Field(0.01, description="Share of the Hessian's mean diagonal that is added to it.")

    def compensate(self, name: str, weight: Tensor, keep: Tensor, statistics: Statistics) -> Compensated:
        """Row by row w_S = H_SS^-1 H_S: w with S what stays: the exact optimum for the mask."""
        import torch

        from modelopt_cli.pruning._inverse import damped

        hessian = damped(statistics.get("gram", name), self.damping)  # (n, n)
        rows, masks = weight.flatten(1).double(), keep.flatten(1)
        wanted = rows @ hessian  # (out, n)
        fitted = torch.zeros_like(rows)
        for row, mask in enumerate(masks):
            place = mask.nonzero()[:, 0]
            if len(place):
                fitted[row, place] = torch.linalg.solve(hessian[place][:, place], wanted[row, place])
        return Compensated(fitted.to(weight.dtype).view_as(weight))
