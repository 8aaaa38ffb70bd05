"""n of every m neighbouring weights stay, as sparse tensor cores want it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self, final

from pydantic import Field, model_validator

from modelopt_cli.core.types import Count
from modelopt_cli.pruning.structures import Cutter, MaskStructure, Merit

if TYPE_CHECKING:
    from torch import Tensor


@final
class Nm(MaskStructure):
    """n of every m neighbours along the input dimension stay (2:4, for sparse tensor cores: Mishra et al. 2021)."""

    fixed: ClassVar[bool] = True

    n: Count = Field(2, description="How many of each group stay.")
    m: Count = Field(4, description="Neighbours in a group.")

    @model_validator(mode="after")
    def _n_below_m(self) -> Self:
        if self.n >= self.m:
            raise ValueError(f"{self.n}:{self.m} removes nothing; n must be below m, e.g. 2:4")
        return self

    def problem(self, shape: tuple[int, ...]) -> str | None:
        """The input dimension (the second one) must be a multiple of m."""
        if len(shape) < 2:
            return f"has no input dimension for {self.n}:{self.m}"
        return None if shape[1] % self.m == 0 else f"its input dimension {shape[1]} is no multiple of {self.m}"

    def keep(
        self, contributions: Mapping[str, Tensor], merit: Merit, removed: Mapping[str, Tensor], cut: Cutter
    ) -> Mapping[str, Tensor]:
        """The n highest of each group stay; among equal ones the first. Nothing is cut beside that."""
        import torch

        from modelopt_cli.pruning.common.lazy_tensors import LazyTensors

        def mask(name: str) -> Tensor:
            score = merit(contributions[name])
            return self._mask(score.masked_fill(removed[name], -torch.inf) if name in removed else score)

        return LazyTensors(contributions, mask)

    def _mask(self, score: Tensor) -> Tensor:
        import torch

        last = score.movedim(1, -1)  # (out, ..., in)
        groups = torch.nan_to_num(last.float(), nan=torch.inf).reshape(*last.shape[:-1], -1, self.m)
        order = groups.argsort(dim=-1, descending=True, stable=True)[..., : self.n]
        kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, order, True)
        return kept.reshape(last.shape).movedim(-1, 1).contiguous()
