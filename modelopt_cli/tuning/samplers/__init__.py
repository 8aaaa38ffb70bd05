"""Samplers: which settings to try next. One public file each; what a strategy needs lies in private ones beside it.

`Sampler` is the base of all. It and the strategies, which are found by name, may be imported from above; within tuning/
analysis/ and schedulers/ use _common/ and _gp/, too.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from modelopt_cli.core.strategy import Strategy

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Params, Trial

__all__ = ["Sampler"]


class Sampler(Strategy):
    """Base of all samplers."""

    family: ClassVar[str] = "samplers"
    exact: ClassVar[bool] = False
    """True when the sampler itself lists what is to be tried (a grid): no start from the file, then."""

    def check(self) -> None:
        """Called before a search. Raises UsageError where what the sampler needs is missing or makes no sense."""

    def check_space(self, space: Space) -> None:
        """Raise UsageError for a space that it cannot search."""

    @abstractmethod
    def suggest(self, space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int) -> list[Params]:
        """Up to `n` settings to try next; fewer only when the sampler has no more to offer.

        Pure: the same history and generator state give the same settings. `trials` is the whole history in order of
        number, queued, running, paused and failed ones included; those of earlier runs have numbers below 0. Use
        `trial.losses` (lower is better, one per objective) and `trial.violation`. No setting of the history and none
        twice; [] when a finite space is used up: samplers/_common/untried.py sees to both. Each ask has a generator
        of its own, so what must stay the same all through a search is seeded by `sequence_seed` (there).
        """
