"""Structures: what may go on its own. One file each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from modelopt_cli.core.strategy import Strategy

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.cuts import Cut

__all__ = ["Cutter", "MaskStructure", "Merit", "Structure", "UnitStructure"]

Merit = Callable[["Tensor"], "Tensor"]
"""From summed contributions to what ranks: their absolute value, or themselves where the sign says what is worse."""
Cutter = Callable[[Mapping[str, "Tensor"]], Mapping[str, "Cut"]]
"""From scores to where they are cut."""


class Structure(Strategy):
    """Base of all structures: of single weights, which become 0, or of units, which are taken out."""

    family: ClassVar[str] = "structures"
    fixed: ClassVar[bool] = False
    """True when the structure itself says how much goes, so that there is no allocation."""


class UnitStructure(Structure):
    """Base of those that take whole units out, so that the model becomes smaller."""

    @abstractmethod
    def keep(self, scores: Mapping[str, Tensor], cut: Cutter) -> Mapping[str, Tensor]:
        """(n,) masks, True stays, from (n,) scores of each group's units."""


class MaskStructure(Structure):
    """Base of those that set weights to 0."""

    def weights(self, tensors: Mapping[str, Tensor]) -> int:
        """How many weights at most go together."""
        return 1

    @abstractmethod
    def problem(self, shape: tuple[int, ...]) -> str | None:
        """Why a tensor of this shape cannot have the structure; None when it can."""

    @abstractmethod
    def keep(
        self, contributions: Mapping[str, Tensor], merit: Merit, removed: Mapping[str, Tensor], cut: Cutter
    ) -> Mapping[str, Tensor]:
        """Masks in the contributions' shapes, True stays; made one by one as they are asked for.

        `removed`: True where a weight is gone already (no entry: nothing is); what is gone goes first.
        """
