"""A study's log asked again: does each suggestion and each decision in it come out as it stands there?

Every answer is asked for with the events before it as they are in the log, not with earlier answers: one that differs
does not make the rest differ. Compared are
- the params and the seed of each trial that the sampler suggested (`queued`, origin `sampler`);
- what the scheduler, and the stopper in it, decided (`decided`), asked with the trials that waited and the free places;
- the reason of each trial that was ended early (`told`, stopped) with the decision before it.
A log without `decided` events, of a study used by hand or of an older version, has suggestions alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.seeds import derive
from modelopt_cli.tuning.schedulers import SchedulerContext, plain
from modelopt_cli.tuning.study import header
from modelopt_cli.tuning.study.log import Decided, Event, Queued
from modelopt_cli.tuning.study.study import Exhausted, Study
from modelopt_cli.tuning.study.warm_start import EarlierRun, WarmStart
from modelopt_cli.tuning.trials.failures import first_line
from modelopt_cli.tuning.trials.trial import State

if TYPE_CHECKING:
    from modelopt_cli.tuning.schedulers import Scheduler

KINDS = ("suggestions", "decisions", "endings")


@dataclass(frozen=True)
class Disagreement:
    """An answer that is not the logged one. `event`: its number in the log, from 1."""

    event: int
    what: str
    logged: Any
    now: Any


@dataclass
class Replayed:
    """What came of it. `asked` and `agreed` count suggestions, decisions, and endings (trials ended early)."""

    events: int = 0
    asked: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(KINDS, 0)))
    agreed: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(KINDS, 0)))
    first: Disagreement | None = None

    def compare(self, kind: str, what: str, logged: object, now: object) -> None:
        """Count an answer; values agree when their JSON does, to the last digit."""
        self.asked[kind] += 1
        if json.dumps(logged, sort_keys=True) == json.dumps(now, sort_keys=True):
            self.agreed[kind] += 1
        elif self.first is None:
            self.first = Disagreement(self.events, what, logged, now)


def replay(
    events: Iterable[Event],
    begun_with: header.Header,
    scheduler: Scheduler,
    *,
    sizes: Sequence[int] | None = None,
    on_event: Callable[[int], None] = lambda number: None,
) -> Replayed:
    """Go through the log of a study that was begun with this header.

    `sizes`: as it was searched with. `on_event` is called with the number of each event in the log.
    Raises ValueError, which names the event, for one that makes no sense.
    """
    replayed = Replayed()
    known = begun_with.get("earlier")
    earlier = [] if known is None else [EarlierRun(WarmStart.from_plain(known).trials)]
    with Study(**header.arguments(begun_with), earlier=earlier) as study:
        stops: dict[int, str] | None = None  # reasons decided on; None: the log holds no decisions
        for kind, number, payload in events:
            replayed.events += 1
            on_event(replayed.events)
            try:
                if kind == "queued" and payload["origin"] == "sampler":
                    _suggestion(study, number, payload, replayed)
                elif kind == "decided":
                    stops = {} if stops is None else stops
                    stops |= _decision(study, scheduler, payload, replayed, sizes)
                elif kind == "told" and payload["state"] == State.STOPPED and stops is not None:
                    reason = stops.pop(number, "nothing: the trial was not to be stopped")
                    replayed.compare(
                        "endings", f"why trial {number} was stopped", payload["reason"], first_line(reason)
                    )
                if kind != "decided":
                    study.follow(kind, number, payload)
            except (LookupError, TypeError, ValueError) as error:
                raise ValueError(f"event {replayed.events}, '{kind}' of trial {number}: {error}") from None
    return replayed


def _suggestion(study: Study, number: int, payload: Queued, replayed: Replayed) -> None:
    """Ask the sampler for the trial that was queued."""
    try:
        params: Any = study.suggest()
    except Exhausted as error:
        params = f"none: {error}"
    seed = derive(study.seed, "trial", number)
    logged, now = (payload["params"], payload["seed"]), (params, seed)
    replayed.compare("suggestions", f"the suggestion of trial {number} (params, seed)", logged, now)


def _decision(
    study: Study, scheduler: Scheduler, payload: Decided, replayed: Replayed, sizes: Sequence[int] | None
) -> dict[int, str]:
    """Ask the scheduler what it was asked; the logged stops, trial -> reason."""
    waiting, logged = payload["waiting"], payload["decisions"]
    context = SchedulerContext(
        space=study.space,
        trials=study.history,
        waiting=waiting,
        slots=payload["slots"],
        left=payload["left"],
        planned=payload["planned"],
        ending=payload["ending"],
        seed=study.seed,
        sizes=sizes,
        goals=study.goals,
        constraints=study.constraints,
        open_ended=payload.get("open_ended", False),
        declared_total=payload.get("told"),
        committed=payload.get("committed", 0),
    )
    now = plain(scheduler.next(context))
    for index in range(max(len(logged), len(now))):
        before, again = (decisions[index] if index < len(decisions) else None for decisions in (logged, now))
        replayed.compare("decisions", f"decision {index + 1} with {_waiting(waiting)}", before, again)
    return {decision[1]: decision[2] for decision in logged if decision[0] == "stop"}


def _waiting(numbers: list[int]) -> str:
    if not numbers:
        return "no trial waiting"
    return f"trial{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))} waiting"
