"""Regularised evolution: the young replace the old. Its machinery: _evolution.py."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.core.types import Count
from modelopt_cli.tuning.samplers import Sampler

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Params, Trial


@final
class Evolution(Sampler):
    """Regularised evolution (Real et al., AAAI 2019, algorithm 1): mutants of the best of a few young trials.

    The population is the newest trials that ended with losses. A mutant differs in one parameter: a category takes any
    other value, a number a normal step whose deviation is drawn between 1% and 50% of its axis, and what a changed
    choice holds is drawn anew. With several objectives the winner lies on the first front, where it is most alone. For
    thousands of trials, deep conditions and many workers.
    """

    population: Count = Field(20, description="Trials that may be mutated: the newest. As many fill the space first.")
    tournament: Count = Field(5, description="Trials drawn from the population, of which the best is mutated.")

    def suggest(self, space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int) -> list[Params]:
        """`n` points of a Sobol sequence, or mutants, that are not in the history; see Sampler."""
        from modelopt_cli.tuning.samplers._common.untried import Untried, design, endless, sequence_seed
        from modelopt_cli.tuning.samplers._evolution import children

        new, seed = Untried(space, trials), sequence_seed(trials, rng)
        start = max(min(self.population - len(trials), n), 0)
        stop = len(trials) + start
        suggested = new.take(design("sobol", space, seed, len(trials), stop, self.population), start)
        mutants = children(space, trials, self.population, self.tournament, rng)
        suggested += new.take(islice(mutants, 20 * n + 200), n - len(suggested))
        return suggested + new.fill(
            endless("sobol", space, seed, len(trials) + len(suggested)), n - len(suggested), rng
        )
