"""Synchronous successive halving, bracket by bracket: all of a rung are compared, the best go on from their state.

A bracket is a run of consecutive trials, so that the history alone tells who belongs where.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelopt_cli.tuning.schedulers import Decision, Pause, Resume, SchedulerContext, Start, Stop, settled
from modelopt_cli.tuning.stoppers._rungs import at_rung, beaten
from modelopt_cli.tuning.trials.ranking import by_front
from modelopt_cli.tuning.trials.trial import State

if TYPE_CHECKING:
    from modelopt_cli.core.conditions import Goal
    from modelopt_cli.tuning.trials.trial import Params, Trial

Suggest = Callable[[], "Params | None"]
"""The setting of the next new trial; None: the sampler's."""


@dataclass(frozen=True)
class Bracket:
    """`sizes[i]` trials go to step `rungs[i]`; the last rung is a complete trial."""

    sizes: tuple[int, ...]
    rungs: tuple[int, ...]


def halving(first: int, factor: int, total: int, sizes: Sequence[int] | None = None) -> Bracket:
    """From factor^k trials at `first` steps down to one at `total`; each rung the next of `sizes`, where given."""
    rungs = []
    step = first
    while step < total:
        rungs.append(step)
        step *= factor
    rungs.append(total)
    if sizes is not None:
        rungs = sorted({next((size for size in sizes if size >= rung), total) for rung in rungs})
    last = len(rungs) - 1
    return Bracket(tuple(factor ** (last - i) for i in range(last + 1)), tuple(rungs))


def shorter(bracket: Bracket, by: int) -> Bracket:
    """Hyperband's bracket (Li et al. 2018, algorithm 1) without the first `by` rungs: fewer trials, each longer."""
    rungs = bracket.rungs[by:]
    factor = bracket.sizes[0] // bracket.sizes[1] if len(bracket.sizes) > 1 else 1
    most = len(bracket.rungs) - 1
    count = -(-(most + 1) * factor ** (most - by) // (most - by + 1))
    return Bracket(tuple(max(1, count // factor**i) for i in range(len(rungs))), rungs)


def decide(context: SchedulerContext, brackets: Iterator[Bracket], suggest: Suggest = lambda: None) -> list[Decision]:
    """Decisions for all slots."""
    open_slots, held = context.open_slots, {trial.number: trial for trial in context.held}
    if open_slots == 0:
        return []
    ending = context.to_the_end()
    for each in ending:
        if isinstance(each, Resume):
            del held[each.number]
    open_slots -= len(ending)
    if context.over:
        stops = [Stop(number, "the search ended before it was promoted") for number in [*held][:open_slots]]
        return [*ending, *stops]
    if context.unmeasured:
        return context.measure()
    decisions: list[Decision] = [*(Pause(number) for number in context.waiting), *ending]
    begun = [trial for trial in context.trials if trial.state is not State.QUEUED]
    used_up = len(context.trials) >= context.space.size  # no bracket gets more than it has
    start = 0
    for bracket in brackets:
        members = begun[start : start + bracket.sizes[0]]
        start += bracket.sizes[0]
        if used_up and not members:
            break
        for decision in _within(bracket, members, held, used_up, context.goals):
            if isinstance(decision, Stop) or open_slots > 0:
                open_slots -= isinstance(decision, Resume)
                decisions.append(decision)
        missing = 0 if used_up else bracket.sizes[0] - len(members)
        for _ in range(min(missing, open_slots)):
            decisions.append(Start(bracket.rungs[0], suggest()))
            open_slots -= 1
        if open_slots <= 0 or missing > 0:
            break
    return _stopping_first(decisions, context.open_slots)


def _stopping_first(decisions: Sequence[Decision], open_slots: int) -> list[Decision]:
    """A stop takes a slot until it is done, too: what does not fit is decided again the next time."""
    pauses = [decision for decision in decisions if isinstance(decision, Pause)]
    stops = [decision for decision in decisions if isinstance(decision, Stop)]
    others = [decision for decision in decisions if not isinstance(decision, Pause | Stop)]
    return settled([*pauses, *[*stops, *others][:open_slots]])


def _within(
    bracket: Bracket, members: Sequence[Trial], held: dict[int, Trial], used_up: bool, goals: Sequence[Goal]
) -> Iterator[Decision]:
    """Who of a bracket goes on or stops, as far as its rungs are complete."""
    if len(members) < bracket.sizes[0] and not used_up:
        return
    for rung, size, after in zip(bracket.rungs, bracket.sizes[1:], bracket.rungs[1:], strict=False):
        if any(trial.step < rung and not trial.state.finished for trial in members):
            return
        came = [trial for trial in members if trial.step >= rung and trial.state is not State.FAILED]
        reached = [(trial, losses) for trial in came if (losses := at_rung(trial, rung)) is not None]
        without = [trial for trial in came if at_rung(trial, rung) is None]  # come last
        chosen = [*(reached[index][0] for index in by_front([losses for _, losses in reached])), *without][:size]
        for trial in came:
            if trial.number in held and trial.step < after and trial not in chosen:
                yield Stop(trial.number, beaten(at_rung(trial, rung), size, f"{len(came)} trials", rung, goals))
        for trial in chosen:
            if trial.number in held and trial.step < after:
                yield Resume(trial.number, after)
        members = chosen


def repeated(bracket: Bracket) -> Iterator[Bracket]:
    """The same without end."""
    return itertools.repeat(bracket)


def cycled(bracket: Bracket) -> Iterator[Bracket]:
    """Hyperband's brackets in turn, the longest first, without end."""
    return itertools.cycle([shorter(bracket, by) for by in range(len(bracket.rungs))])
