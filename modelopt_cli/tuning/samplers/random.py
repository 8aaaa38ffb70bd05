"""Independent random settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from modelopt_cli.tuning.samplers import Sampler

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Params, Trial


@final
class Random(Sampler):
    """Uniform random search, log-uniform where `log` is set (Bergstra & Bengio 2012).

    It learns nothing: for comparisons, and for the first settings of a scheduler that learns by itself.
    """

    def suggest(self, space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int) -> list[Params]:
        """`n` random settings that are not in the history; see Sampler."""
        from modelopt_cli.tuning.samplers._common.untried import Untried

        draws = iter(lambda: space.sample(rng), None)
        return Untried(space, trials).fill(draws, n, rng)
