"""Bayesian optimization, the default search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.tuning.samplers import Sampler

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.tuning.space import Space
    from modelopt_cli.tuning.trial import Params, Trial


@final
class Bayesian(Sampler):
    """Bayesian optimization: a Gaussian process learns from the trials which settings promise most.

    scikit-optimize's process (Matern 5/2 with noise and a length scale a parameter) with priors on its
    hyperparameters, and expected improvement; settings chosen on the table problems of the search benchmark.
    """

    initial_points: int = Field(8, ge=1, description="Trials before the model is used, the file's own included.")

    def suggest(self, space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int) -> list[Params]:
        """The `n` most promising settings that are not in the history; see Sampler."""
        from modelopt_cli.tuning.samplers._model_based import Plan, suggest

        plan = Plan(
            surrogate="gp",
            acquisition="ei",
            initial_points=self.initial_points,
            initial_design="sobol",
            xi=0.0,
            kappa=1.96,
            noise=True,
            priors=True,
            points=150,
        )
        return suggest(plan, space, trials, rng, n)
