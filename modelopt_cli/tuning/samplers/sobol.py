"""A quasi-random sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.tuning.samplers import Sampler

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Params, Trial


@final
class Sobol(Sampler):
    """Scrambled Sobol sequence: covers the space more evenly than random search (Owen 1998).

    Trial k gets point k of one sequence. Each suggestion has a random stream of its own, so the scrambling is seeded by
    the first trial's seed, which the whole search shares, or by `seed`. It learns nothing: for a picture of the whole
    space, and for comparisons.
    """

    seed: int | None = Field(None, ge=0, description="Seed of the scrambling; null: from the experiment's seed.")

    def suggest(self, space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int) -> list[Params]:
        """The next `n` points of the sequence that are not in the history; see Sampler."""
        from modelopt_cli.tuning.samplers._common.untried import Untried, endless, sequence_seed

        seed = sequence_seed(trials, rng) if self.seed is None else self.seed
        return Untried(space, trials).fill(endless("sobol", space, seed, len(trials)), n, rng)
