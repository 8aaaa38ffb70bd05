"""Layer-adaptive magnitude-based pruning: one ranking in which no tensor is emptied before the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from modelopt_cli.core.errors import UsageError
from modelopt_cli.pruning.allocations import Allocation, SensitivityProbe

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.cuts import Cut


@final
class Lamp(Allocation):
    """LAMP: one ranking by s^2 over the sum of the squares that are no smaller in its tensor (Lee et al., ICLR 2021).

    The last score of a tensor has LAMP score 1, so no tensor is emptied while another has more to give.
    """

    def cuts(
        self, scores: Mapping[str, Tensor], target: float, probe: SensitivityProbe | None = None
    ) -> dict[str, Cut]:
        """Exactly round(target * n) of all n scores go. Raises UsageError for scores that rank by their sign."""
        from modelopt_cli.pruning.common.cuts import BlockScores, block_sizes, joint_share, lowest

        shares = {name: self._shares(name, score) for name, score in scores.items()}
        joint = joint_share(BlockScores(shares, block_sizes(scores)), target)
        return {name: lowest(score, joint[name].count(shares[name])) for name, score in scores.items()}

    def _shares(self, name: str, score: Tensor) -> Tensor:
        """(n,) float64 LAMP scores in ascending order of the score; of what is removed already -inf."""
        import torch

        ordered = score.detach().reshape(-1).double().sort(stable=True).values
        removed = ordered == -torch.inf
        if bool((ordered[~removed] < 0).any()):
            raise UsageError(
                f"allocation lamp compares squares, but the scores of {name} are signed; use the allocation global"
            )
        squares = torch.where(removed, 0.0, ordered).square()
        above = squares.flip(0).cumsum(0).flip(0)
        return torch.where(removed, -torch.inf, squares / above.clamp_min(torch.finfo(torch.float64).tiny))
