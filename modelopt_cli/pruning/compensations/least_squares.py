"""Compensation by least squares: the weights that stay are fitted anew to what the layer gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from pydantic import Field

from modelopt_cli.core.types import Positive
from modelopt_cli.pruning.common.statistics import Needs
from modelopt_cli.pruning.compensations import Compensated, UnitCompensation, WeightCompensation

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.moments import Moments
    from modelopt_cli.pruning.common.statistics import Statistics


@final
class LeastSquares(WeightCompensation, UnitCompensation):
    """Each output's remaining weights, fitted anew to the layer's dense outputs on the calibration samples."""

    needs: ClassVar[Needs] = frozenset({"gram"})
    everywhere: ClassVar[bool] = True

    damping: Positive = Field(0.01, description="Share of the Hessian's mean diagonal that is added to it.")

    def compensate(self, name: str, weight: Tensor, keep: Tensor, statistics: Statistics) -> Compensated:
        """Row by row w_S = H_SS^-1 H_S: w with S what stays: the exact optimum for the mask."""
        import torch

        from modelopt_cli.pruning.common.inverse import damped

        hessian = damped(statistics.get("gram", name), self.damping)  # (n, n)
        rows, masks = weight.flatten(1).double(), keep.flatten(1)
        wanted = rows @ hessian  # (out, n)
        fitted = torch.zeros_like(rows)
        for row, mask in enumerate(masks):
            kept = mask.nonzero()[:, 0]
            if len(kept):
                fitted[row, kept] = torch.linalg.solve(hessian[kept][:, kept], wanted[row, kept])
        return Compensated(fitted.to(weight.dtype).view_as(weight))

    def refit(self, weight: Tensor, moments: Moments) -> Compensated:
        """W' and b' that minimise E|W x + e + b - W' x~ - b'|^2 + damping |W' - W_K|^2 (He et al., ICCV 2017, eq. 3).

        With D = W E[x x~^T] + E[e x~^T], centred, and S the covariance of x~: W' = W_K + (D - W_K S) (S + damping)^-1.
        """
        import torch

        from modelopt_cli.pruning.common.inverse import damped, solved

        old, stays = weight.double(), weight[:, moments.kept].double()
        wanted, mean = old @ moments.cross, old @ moments.mean  # (out, s), (out,)
        if moments.residual is not None and moments.residual_mean is not None:
            wanted, mean = wanted + moments.residual, mean + moments.residual_mean
        covariance = moments.kept_gram
        if moments.intercept:
            wanted = wanted - torch.outer(mean, moments.kept_mean)
            covariance = covariance - torch.outer(moments.kept_mean, moments.kept_mean)
        missing = wanted - stays @ covariance  # (out, s)
        new = stays + solved(damped(covariance, self.damping), missing.T).T
        if not moments.intercept:
            return Compensated(new.to(weight.dtype))
        change = mean - new @ moments.kept_mean
        return Compensated(new.to(weight.dtype), change.to(weight.dtype))
