"""scikit-optimize's Bayesian optimization, with every choice open. Its machinery: _skopt.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, final

from pydantic import Field

from modelopt_cli.tuning.samplers import Sampler

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Params, Trial


@final
class Skopt(Sampler):
    """Bayesian optimization with scikit-optimize's surrogates and acquisition functions.

    The surrogate is fitted anew for each suggestion, from the history alone (Head et al., scikit-optimize 0.10.2). For
    trees as surrogates, and for improvement per second; else `bayesian` finds more in fewer trials.
    """

    surrogate: Literal["gp", "forest", "extra_trees", "gbrt"] = Field(
        "gp", description="Model of the loss: Gaussian process, random forest, extra trees or boosted quantile trees."
    )
    acquisition: Literal["ei", "pi", "lcb", "hedge", "eips"] = Field(
        "ei",
        description="What makes a point promising: expected improvement, probability of it, lower confidence bound, "
        "one of the three by chance, the likelier the better its point looks, or expected improvement per second.",
    )
    initial_points: int = Field(10, ge=1, description="Trials before the surrogate is used, the file's own included.")
    initial_design: Literal["sobol", "lhs", "random"] = Field(
        "sobol", description="How these fill the space: Sobol sequence, Latin hypercube, or independently."
    )
    xi: float = Field(0.01, ge=0.0, description="Improvement asked for (ei, pi), in standard deviations of the losses.")
    kappa: float = Field(1.96, ge=0.0, description="Weight of the uncertainty (lcb).")
    noise: bool = Field(True, description="Whether equal settings may give different losses (gp).")
    points: int = Field(300, ge=10, description="Most trials that the surrogate is fitted to: best, newest, random.")

    def suggest(self, space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int) -> list[Params]:
        """The `n` most promising settings that are not in the history; see Sampler."""
        from modelopt_cli.tuning.samplers._skopt import Plan, suggest

        plan = Plan(
            surrogate=self.surrogate,
            acquisition=self.acquisition,
            initial_points=self.initial_points,
            initial_design=self.initial_design,
            xi=self.xi,
            kappa=self.kappa,
            noise=self.noise,
            points=self.points,
        )
        return suggest(plan, space, trials, rng, n)
