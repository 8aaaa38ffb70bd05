"""Population-based training: members train side by side; the worst go on as changed copies of the best."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, ClassVar, final

from pydantic import Field

from modelopt_cli.core.errors import did_you_mean
from modelopt_cli.core.types import Count, Fraction, Items, Positive
from modelopt_cli.tuning.schedulers import Decision, Scheduler, SchedulerContext
from modelopt_cli.tuning.space.parameters import is_under

if TYPE_CHECKING:
    from modelopt_cli.tuning.space.space import Space


@final
class Pbt(Scheduler):
    """Population-based training (Jaderberg et al. 2017): the worst go on as copies of the best, with changed settings.

    Truncation selection, and exploration by perturbing or resampling (section 4.1.1); asynchronous, and with one worker
    in generations. A copy inherits what is not changed, the choices of sections always. `tuning.trials` is the number
    of members, and so about what it spends: the steps of so many complete trials.
    """

    copies: ClassVar[bool] = True
    sizes: ClassVar[bool] = False

    population: Annotated[int, Field(ge=2)] | None = Field(
        None, description="Members that train side by side, one population after the other; null: all tuning.trials."
    )
    interval: Count | None = Field(
        None, description="Steps between the points where a member is judged; null: a tenth of a complete trial."
    )
    quantile: Annotated[float, Field(gt=0.0, le=0.5)] = Field(
        0.2, description="The worst share, which is replaced, and the best share, of which copies are made."
    )
    factors: Annotated[Items[Positive], Field(min_length=1)] = Field(
        (0.8, 1.2), description="By one of these a number of a copy is multiplied; ordered values move to a neighbour."
    )
    resample: Fraction = Field(0.25, description="Probability of a new random value in place of that.")
    perturb: Items[str] | None = Field(
        None,
        description="Paths whose numbers and ordered values a copy changes, with all below them; null: all but those "
        "of model, data (save data.augment) and training.epochs, on which the shape of a state may depend.",
    )

    def problem(self, trials: int | None, space: Space) -> str | None:
        """See the base class."""
        from modelopt_cli.tuning.schedulers._exploration import changing

        if trials is not None and trials < 2:
            return f"tuning.trials is {trials}, but a population has at least 2 members; raise it, or use no scheduler"
        if self.population is not None and trials is not None and trials % self.population:
            return (
                f"population is {self.population} with tuning.trials {trials}, but trials is the members of all "
                f"populations together; make it a multiple of population, or leave population out"
            )
        for path in self.perturb or ():
            if not any(is_under(searched, path) for searched in space.paths):
                hint = did_you_mean(path, space.paths).strip() or f"name one of: {', '.join(space.paths)}"
                return f"perturb has '{path}', which is not searched in tuning.space; {hint}"
        if not changing(space, self.perturb):
            return (
                f"of what is searched ({', '.join(space.paths)}) nothing can change while a model is trained: no "
                "numbers or ordered values outside model, data and training.epochs; search others, such as "
                "training.optimizer.lr, or name them in perturb"
            )
        return None

    def sources(self, context: SchedulerContext) -> Collection[int]:
        """See the base class."""
        from modelopt_cli.tuning.schedulers._population import populations

        return [number for each in populations(context, self.population) for number in each.sources]

    def next(self, context: SchedulerContext) -> list[Decision]:
        """Judge who waits or is paused before it goes on; replace who was stopped or has failed."""
        from modelopt_cli.tuning.schedulers._pbt import decide

        return decide(self, context)
