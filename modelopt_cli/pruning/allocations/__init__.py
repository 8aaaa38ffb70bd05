"""Allocations: how much goes, and where. One file each."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from modelopt_cli.core.strategy import Strategy

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.common.cuts import Cut

__all__ = ["Allocation", "ProbedCuts", "SensitivityProbe"]

ProbedCuts = list[tuple[str, float, float]]
"""(tensor or group, share of it removed, loss or output error) of each cut that a probe tried."""


class SensitivityProbe(ABC):
    """Tries out what cutting one tensor, or one group of units, alone does."""

    rough: bool = False
    """True while an allocation is asked for one target after another: cuts from what is known are good enough."""
    passes: float = 0.0
    """Passes over all calibration samples that this took so far; of a part of the network its multiplications count."""
    near: float = 0.3
    """How far one output error tells others by `shape`: up to this logarithm of the ratio of its values."""
    share: float = 1 / 4
    """Of the passes that a whole curve of each tensor would take, what a few cuts of each may take."""

    @abstractmethod
    def loss(self, name: str, cut: Cut) -> float:
        """The loss when this one alone is cut like this: on validation data where there are some."""

    @abstractmethod
    def output_error(self, name: str, cut: Cut) -> float:
        """How far the model's outputs are then from what they were; 0 when nothing goes."""

    def output_errors(self, cuts: Mapping[str, Sequence[Cut]]) -> dict[str, list[float]]:
        """`output_error` of several cuts of several tensors, each alone, in whatever order costs least."""
        from modelopt_cli.core.work import counted

        return {
            name: [self.output_error(name, cut) for cut in own]
            for name, own in counted(cuts.items(), "layers cut on trial")
        }

    def known_errors(self, name: str) -> Mapping[int, float]:
        """How many of its scores went -> output error, of all cuts that were tried so far."""
        return {}

    def shape(self, name: str, counts: Sequence[int]) -> Sequence[float] | None:
        """How output errors would grow, in any unit, when so many of its scores go (ascending); no pass is made for it.

        None: nothing is known of that.
        """
        return None

    def price(self, name: str) -> float:
        """What one of its scores saves; 1 where numbers alone count."""
        return 1.0

    def cost(self, name: str) -> float:
        """Passes over all calibration samples that `output_error` of one cut takes, where it is not known yet."""
        return 1.0


class Allocation(Strategy):
    """Base of all allocations. They say where scores are cut by `cuts`, and are asked by `allocate`."""

    family: ClassVar[str] = "allocations"
    measures: ClassVar[bool] = False
    """True when `cuts` needs a probe: the allocation tries out what removing costs."""
    measured: ClassVar[Literal["loss", "divergence"]] = "loss"
    """What the figures are that it measures, where it does: of the model, or of its outputs from those before."""
    absolute: ClassVar[bool] = False
    """True when the target is a score, not a share."""
    piecewise: ClassVar[bool] = False
    """True when pieces of a tensor may stand for it: there is one border, whatever lies where."""

    def tries(self, share: float = SensitivityProbe.share) -> float:
        """About how many cuts of each tensor are tried out; 0 for what measures nothing.

        `share`: the probe's; by default that of weights.
        """
        return 0.0

    @abstractmethod
    def cuts(
        self, scores: Mapping[str, Tensor], target: float, probe: SensitivityProbe | None = None
    ) -> dict[str, Cut]:
        """Where each tensor's scores are cut. `target`: the share of all scores to remove, 0 to 1.

        Scores may be negative; those of what is gone already are -inf, and go first. Where they are BlockScores
        (common/cuts.py), each stands for several weights, and the target is a share of all weights.
        """

    def allocate(
        self,
        scores: Mapping[str, Tensor],
        target: float,
        *,
        keep_at_least: float = 0.0,
        probe: SensitivityProbe | None = None,
    ) -> dict[str, Cut]:
        """The cuts, but for a floor: ceil(`keep_at_least` * n) of each tensor's n scores stay.

        What a tensor at its floor does not give, the others give instead, as long as they can: it is set aside with its
        floor, and the allocation is asked again for the rest, until no other tensor falls below its own.
        """
        from modelopt_cli.pruning.common.cuts import NOTHING, block_sizes, lowest, subset

        if keep_at_least <= 0.0:
            return self.cuts(scores, target, probe)
        fixed: dict[str, Cut] = {}
        scores = subset(scores, scores)
        most = {name: score.numel() - math.ceil(keep_at_least * score.numel()) for name, score in scores.items()}
        sizes = block_sizes(scores)
        total = sum(score.numel() * sizes[name] for name, score in scores.items())
        rest, share = list(scores), target
        while True:
            cuts = self.cuts(subset(scores, rest), share, probe) if rest else {}
            low = [name for name, cut in cuts.items() if cut.count(scores[name]) > most[name]]
            if not low:
                return {name: fixed.get(name, cuts.get(name, NOTHING)) for name in scores}
            for name in low:
                rest.remove(name)
                fixed[name] = lowest(scores[name], most[name])
            if not self.absolute:
                left = sum(scores[name].numel() * sizes[name] for name in rest)
                removed = sum(most[name] * sizes[name] for name in fixed)
                share = min(1.0, max(0.0, (target * total - removed) / left)) if left else 0.0

    def allocate_weights(
        self,
        scores: Mapping[str, Tensor],
        weights: Mapping[str, int],
        target: float,
        *,
        keep_at_least: float = 0.0,
        probe: SensitivityProbe | None = None,
    ) -> dict[str, Cut]:
        """`allocate` for scores that stand for several weights each (blocks): the target is a share of the weights.

        `weights`: how many each tensor has. Where scores of different tensors stand for different numbers of them, they
        are compared by what they are for one weight: a block of a 3 x 3 convolution holds nine times those of a linear
        layer's.
        """
        from modelopt_cli.pruning.common.cuts import BlockScores, lowest
        from modelopt_cli.pruning.common.lazy_tensors import LazyTensors

        sizes = {name: weights[name] // max(1, score.numel()) for name, score in scores.items()}
        if self.absolute or len(set(sizes.values())) <= 1:
            return self.allocate(scores, target, keep_at_least=keep_at_least, probe=probe)
        each = BlockScores(LazyTensors(scores, lambda name: scores[name] / sizes[name]), sizes)

        def of_blocks(name: str, cut: Cut) -> Cut:
            return lowest(scores[name], cut.count(each[name]))

        scaled = None if probe is None else _BlockProbe(probe, of_blocks, sizes)
        cuts = self.allocate(each, target, keep_at_least=keep_at_least, probe=scaled)
        return {name: of_blocks(name, cut) for name, cut in cuts.items()}


class _BlockProbe(SensitivityProbe):
    """A probe for cuts in scores of one weight, where the structure cuts in blocks of several."""

    def __init__(self, probe: SensitivityProbe, of_blocks: Callable[[str, Cut], Cut], sizes: Mapping[str, int]) -> None:
        self._probe, self._of_blocks, self._sizes = probe, of_blocks, sizes
        self.rough, self.near, self.share = probe.rough, probe.near, probe.share

    def loss(self, name: str, cut: Cut) -> float:
        return self._probe.loss(name, self._of_blocks(name, cut))

    def output_error(self, name: str, cut: Cut) -> float:
        return self._probe.output_error(name, self._of_blocks(name, cut))

    def output_errors(self, cuts: Mapping[str, Sequence[Cut]]) -> dict[str, list[float]]:
        of_blocks = {name: [self._of_blocks(name, cut) for cut in own] for name, own in cuts.items()}
        return self._probe.output_errors(of_blocks)

    def known_errors(self, name: str) -> Mapping[int, float]:
        return self._probe.known_errors(name)

    def shape(self, name: str, counts: Sequence[int]) -> Sequence[float] | None:
        return self._probe.shape(name, counts)

    def price(self, name: str) -> float:
        return float(self._sizes[name])

    def cost(self, name: str) -> float:
        return self._probe.cost(name)
