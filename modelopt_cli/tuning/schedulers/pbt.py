"""Population-based training: members train side by side; the worst go on as changed copies of the best.

A member is judged when it is its turn to go on, those behind first. With one worker all have come to the same step by
then: generations. With as many workers as members nobody waits for anybody: one is compared with those that have come
to its step, or where these are less than half, at an earlier step that half have come to. So to be slow is no fault and
to be fast no merit. (The paper compares whatever each reported last.) The steps at which members pause, so that their
state is kept, are the multiples of the interval.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, final

from pydantic import Field

from modelopt_cli.core.errors import did_you_mean
from modelopt_cli.core.seeds import derive
from modelopt_cli.core.types import Count, Fraction, Items, Positive
from modelopt_cli.tuning.schedulers import Decision, Pause, Resume, Scheduler, SchedulerContext, Start, Stop
from modelopt_cli.tuning.schedulers._exploration import changing, explored
from modelopt_cli.tuning.schedulers._population import Population, populations
from modelopt_cli.tuning.space.parameters import is_under
from modelopt_cli.tuning.trials.trial import State, Trial

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
        return [number for each in populations(context, self.population) for number in each.sources]

    def next(self, context: SchedulerContext) -> list[Decision]:
        """Judge who waits or is paused before it goes on; replace who was stopped or has failed."""
        if context.ending:
            text = "the search ended before it had come to its end"
            return [Stop(trial.number, text) for trial in context.held[: context.open_slots]]
        interval = self.interval or max(1, round((context.total or 1) / 10))
        on_the_way = [number for number in context.waiting if context.trials[number].step % interval]
        pausing = [number for number in context.waiting if number not in on_the_way]
        decisions: list[Decision] = [
            Resume(number, _next_point(context.trials[number].step, interval)) for number in on_the_way
        ]
        paused = tuple(
            dataclasses.replace(trial, state=State.PAUSED) if trial.number in pausing else trial
            for trial in context.trials
        )
        turns = _Turns(self, dataclasses.replace(context, trials=paused), interval).all()
        open_slots = context.open_slots - len(on_the_way)
        chosen = [decision for _, decision in zip(range(open_slots), turns, strict=False)]
        stopped = {decision.number for decision in chosen if isinstance(decision, Stop)}
        copied = {decision.parent for decision in chosen if isinstance(decision, Start)}
        kept = [number for number in pausing if number not in stopped or number in copied]
        return [*decisions, *(Pause(number) for number in kept), *chosen]


def _next_point(step: int, interval: int) -> int:
    return (step // interval + 1) * interval


def _fresh(trial: Trial) -> bool:
    """Whether it is a copy that was cut off before it came to a pause of its own."""
    return trial.state is State.PAUSED and not trial.curve


class _Turns:
    """What is done with each slot that is free, the most urgent first. A stop takes its slot until it is done."""

    def __init__(self, options: Pbt, context: SchedulerContext, interval: int) -> None:
        self._options, self._context, self._interval = options, context, interval
        self._next = len(context.trials)  # the number of the next trial

    def all(self) -> Iterator[Decision]:
        """Trials that were begun, or asked for, before a search was cut off; then population by population."""
        for trial in self._context.trials:
            until = _next_point(trial.born, self._interval)
            if trial.state is State.QUEUED:
                yield Start(until)
            elif _fresh(trial):
                yield Resume(trial.number, until)
        for population in populations(self._context, self._options.population):
            yield from self._copies(population)
            for _ in range(population.unbegun if self._more else 0):
                yield Start(_next_point(0, self._interval))
                self._next += 1
            yield from self._held(population)

    @property
    def _more(self) -> bool:
        """Whether there are settings that no trial has had. (A sampler that has come to its end leaves `left` at 0.)"""
        context = self._context
        roots = sum(trial.parent is None for trial in context.trials)
        ended = context.left == 0 and (context.planned is None or len(context.trials) < context.planned)
        return not ended and roots < context.space.size

    def _copies(self, population: Population) -> Iterator[Decision]:
        """In the seats of those that were stopped or have failed."""
        for copies in range(population.copies, population.copies + population.empty):
            replaced = population.replaced(copies)
            judged = max(1, -(-replaced.step // self._interval)) * self._interval
            donors = population.donors(population.common(judged), self._options.quantile)
            promised = replaced.state is State.STOPPED  # it was stopped for the sake of a copy, so there is one
            if donors and (promised or self._steps_left):
                yield self._copy(donors)
                self._next += 1

    @property
    def _steps_left(self) -> bool:
        """Whether anybody is still replaced; when all steps are spent, who is under way goes on to its end."""
        return self._context.steps_left > 0

    def _copy(self, donors: list[Trial]) -> Start:
        """Of one of them, drawn by the number that the copy gets, so that it is the same whenever that is decided."""
        import numpy as np

        options, space = self._options, self._context.space
        rng = np.random.default_rng(derive(self._context.seed, "pbt", self._next))
        donor = donors[int(rng.integers(len(donors)))]
        positions = changing(space, options.perturb)
        params = explored(space, donor.params, positions, options.factors, options.resample, rng)
        assert donor.saved is not None
        return Start(_next_point(donor.saved, self._interval), params, donor.number)

    def _held(self, population: Population) -> Iterator[Decision]:
        """Those behind first; of those at the same step, who is to be replaced, then the best.

        So who is not so good goes on when most have come to its step, and is judged by them.
        """
        paused = [trial for trial in population.present if trial.state is State.PAUSED and not _fresh(trial)]
        behind = min((trial.step for trial in paused), default=0)
        at = population.common(behind)
        replaceable = paused and self._steps_left and population.donors(at, self._options.quantile)
        worst = population.worst(at, self._options.quantile) if replaceable else set()
        lagging = [trial.number for trial in paused if trial.step == behind and trial.number in worst]
        ranks = {trial.number: rank for rank, (trial, _) in enumerate(population.ranked(at))}
        text = f"among the worst {len(worst)} of {len(ranks)} at step {at}: a copy of one of the best takes its place"
        yield from (Stop(number, text) for number in lagging)
        for trial in sorted(paused, key=lambda trial: (trial.step, ranks.get(trial.number, -1), trial.number)):
            if trial.number not in lagging:
                yield Resume(trial.number, _next_point(trial.step, self._interval))
