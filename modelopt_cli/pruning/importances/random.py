"""Importance by chance: what every other one must beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, final

from pydantic import Field

from modelopt_cli.core.seeds import derive
from modelopt_cli.pruning.importances import UnitImportance, WeightImportance

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.statistics import Statistics
    from modelopt_cli.pruning.common.units import Units


@final
class Random(WeightImportance, UnitImportance):
    """Chance: scores drawn uniformly, by the seed and the tensor's name alone."""

    seed: Annotated[int, Field(ge=0)] = Field(0, description="Other seeds draw other scores.")

    def contributions(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Mapping[str, Tensor]:
        """Uniform in [0, 1)."""
        import torch

        from modelopt_cli.pruning.common.lazy_tensors import LazyTensors

        def drawn(name: str) -> Tensor:
            generator = torch.Generator().manual_seed(derive(self.seed, "importance", name))
            return torch.rand(weights[name].shape, generator=generator).to(weights[name].device)

        return LazyTensors(weights, drawn)

    def scores(self, units: Units) -> Tensor:
        """Uniform in [0, 1), by the seed and the group's name."""
        import torch

        generator = torch.Generator().manual_seed(derive(self.seed, "importance", units.name))
        return torch.rand(units.size, generator=generator)
