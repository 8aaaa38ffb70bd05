"""Covariance matrix adaptation. Its machinery: _cmaes.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, final

from pydantic import Field
from typing_extensions import override

from modelopt_cli.core.extras import require
from modelopt_cli.tuning.samplers import Sampler

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Params, Trial


@final
class Cmaes(Sampler):
    """CMA-ES (Hansen 2016, "The CMA evolution strategy: a tutorial"), by the library cmaes; extra: cmaes.

    Trials in order of number are its generations. Whole numbers and ordered values are random points of their share of
    the axis, so that the strategy cannot freeze on one; categories have probabilities that the good half of each
    generation moves, with a margin (as in CatCMA, Hamano et al., GECCO 2024). A strategy that has converged starts
    anew with twice the population (Auger & Hansen 2005). Earlier trials (tuning.warm_start) give it its first mean and
    covariance (Nomura et al., AAAI 2021). For numbers that depend on each other, and hundreds of cheap trials.
    """

    extra: ClassVar[str] = "cmaes"

    population: Annotated[int, Field(ge=4)] | None = Field(
        None, description="Trials in a generation; null: 4 + 3 log(number of parameters)."
    )
    sigma: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.25, description="First standard deviation, as a share of each parameter's axis."
    )

    @override
    def check(self) -> None:
        """Raises MissingExtraError without the library."""
        require("cmaes", "cmaes")

    def suggest(self, space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int) -> list[Params]:
        """`n` draws from the distribution after the last complete generation, not in the history; see Sampler."""
        self.check()
        from modelopt_cli.tuning.samplers._cmaes import suggest

        return suggest(space, trials, rng, n, self.sigma, self.population)
