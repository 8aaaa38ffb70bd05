"""Blocks of neighbouring weights, which become 0 together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.core.types import Count
from modelopt_cli.pruning.structures import Cutter, MaskStructure, Merit

if TYPE_CHECKING:
    from torch import Tensor


@final
class Block(MaskStructure):
    """Blocks over outputs and inputs (with the whole kernel of a convolution) go together (Gray et al. 2017)."""

    rows: Count = Field(4, description="Outputs in a block.")
    columns: Count = Field(4, description="Inputs in a block.")

    def problem(self, shape: tuple[int, ...]) -> str | None:
        """Outputs and inputs must be multiples of the block's sides."""
        if len(shape) < 2:
            return f"has no {self.rows}x{self.columns} blocks"
        fits = shape[0] % self.rows == 0 and shape[1] % self.columns == 0
        return None if fits else f"its {shape[0]} outputs x {shape[1]} inputs do not divide into {self._name} blocks"

    def weights(self, tensors: Mapping[str, Tensor]) -> int:
        """Of the largest kernel."""
        kernels = [
            tensor.numel() // (tensor.shape[0] * tensor.shape[1]) for tensor in tensors.values() if tensor.numel()
        ]
        return self.rows * self.columns * max(kernels, default=1)

    @property
    def _name(self) -> str:
        return f"{self.rows}x{self.columns}"

    def keep(
        self, contributions: Mapping[str, Tensor], merit: Merit, removed: Mapping[str, Tensor], cut: Cutter
    ) -> Mapping[str, Tensor]:
        """A block's score is the merit of the sum of its contributions: sum |w| for magnitude, |sum w g| for taylor."""
        import torch

        from modelopt_cli.pruning.common.lazy_tensors import LazyTensors

        def score(name: str) -> Tensor:
            contribution = contributions[name]
            ranks = merit(self._blocks(contribution.float()).sum((1, 3, 4)))  # (out / rows, in / columns)
            if name in removed:
                ranks = ranks.masked_fill(self._blocks(removed[name]).all(4).all(3).all(1), -torch.inf)
            return ranks

        scores = LazyTensors(contributions, score)
        cuts = cut(scores)

        def mask(name: str) -> Tensor:
            kept = cuts[name].removes(scores[name]).logical_not_()
            shape = contributions[name].shape
            whole = kept.repeat_interleave(self.rows, 0).repeat_interleave(self.columns, 1)
            return whole.view(*shape[:2], *[1] * (len(shape) - 2)).expand(shape).contiguous()

        return LazyTensors(contributions, mask)

    def _blocks(self, values: Tensor) -> Tensor:
        """(out / rows, rows, in / columns, columns, kernel)"""
        out, inputs = values.shape[:2]
        return values.reshape(out // self.rows, self.rows, inputs // self.columns, self.columns, -1)
