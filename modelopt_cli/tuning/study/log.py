"""A study's log: the events that its store keeps, and the trials that they leave.

`queued`: a setting is to be tried; `started`: its trial runs, for the first time or again; `reported`: points of its
curve; `paused`; `requeued` and `suspended`: it was cut off, and what it had reported since is void; `told`: it has
ended; `decided`: what a scheduler was asked, and what it said (what that led to has events of its own).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from modelopt_cli.tuning.trials.evaluator import Verdict
from modelopt_cli.tuning.trials.indexed import IndexedTrials
from modelopt_cli.tuning.trials.trial import Metrics, Params, Point, State, Trial

if TYPE_CHECKING:
    from modelopt_cli.tuning.study.store import Store

NO_TRIAL = -1
"""The trial of a `decided` event, which is about none in particular."""

Event = tuple[str, int, Any]
"""(kind, number of the trial, payload): one of those below, or empty."""


class Queued(TypedDict):
    """Payload of `queued`."""

    params: Params
    seed: int
    origin: str
    parent: NotRequired[int]
    born: NotRequired[int]


class Reported(TypedDict):
    """Payload of `reported`: (step, metrics, losses) of each point."""

    points: list[tuple[int, Metrics, list[float] | None]]
    total: NotRequired[int]


class Told(Verdict):
    """Payload of `told`."""

    total: NotRequired[int]


class Decided(TypedDict):
    """Payload of `decided`: the scheduler's context, and its decisions as plain values."""

    waiting: list[int]
    slots: int
    left: int
    planned: int | None
    ending: bool
    open_ended: NotRequired[bool]
    told: NotRequired[int | None]
    committed: NotRequired[int]
    decisions: list[list[Any]]


class TrialTable:
    """The trials, in order of number, as the events so far have left them."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.history = IndexedTrials(self.trials)
        """That very list, with what is derived from it."""
        self._order: int | None = 0  # of the next point of a curve, among those of all curves; None: to be looked up

    def apply(self, kind: str, number: int, payload: Any) -> None:
        """Take over an event. Raises LookupError, TypeError, ValueError when it makes no sense."""
        match kind:
            case "queued":
                self._queue(number, payload)
            case "started":  # a paused trial goes on from its curve; a queued one has none
                self._change(number, state=State.RUNNING, kept=len(self.trials[number].curve))
            case "reported":
                self._report(number, payload)
            case "paused":
                self._change(number, state=State.PAUSED)
            case "requeued":  # will be run from the start, with the same number, setting and seed
                self._change(number, state=State.QUEUED, curve=(), kept=0)
                self._order = None
            case "suspended":  # is paused again as it was when it was last started
                trial = self.trials[number]
                self._change(number, state=State.PAUSED, curve=trial.curve[: trial.kept])
                self._order = None
            case "told":
                self._end(number, payload)
            case "decided":
                pass
            case _:
                raise KeyError(kind)

    def _change(self, number: int, **fields: Any) -> None:
        before = self.trials[number]
        after = self.trials[before.number] = dataclasses.replace(before, **fields)
        self.history.changed(before, after)

    def _queue(self, number: int, payload: Queued) -> None:
        if number != len(self.trials):
            raise ValueError(f"trial {number} comes after {len(self.trials)} trials")
        parent, born = payload.get("parent"), payload.get("born", 0)
        origin = payload["origin"]
        trial = Trial(number, payload["params"], payload["seed"], origin=origin, parent=parent, born=born)
        self.trials.append(trial)
        self.history.changed(None, trial)

    def _report(self, number: int, payload: Reported) -> None:
        trial = self.trials[number]
        points = [
            Point(step, metrics, None if losses is None else tuple(losses), order)
            for order, (step, metrics, losses) in enumerate(payload["points"], self._next_order())
        ]
        self._change(number, curve=(*trial.curve, *points), total=payload.get("total", trial.total))
        self._order = self._next_order() + len(points)

    def _next_order(self) -> int:
        """Where points of a curve were taken back, the next one comes after the last that is left."""
        if self._order is None:
            self._order = 1 + max((trial.curve[-1].order for trial in self.trials if trial.curve), default=-1)
        return self._order

    def _end(self, number: int, payload: Told) -> None:
        losses = payload["losses"]
        self._change(
            number,
            state=State(payload["state"]),
            metrics=payload["metrics"],
            losses=None if losses is None else tuple(losses),
            violation=payload["violation"],
            margins=tuple(payload.get("margins", ())),
            failure=payload["failure"],
            reason=payload["reason"],
            seconds=payload["seconds"],
            total=payload.get("total", self.trials[number].total),
        )


def replay(events: Iterable[Event]) -> TrialTable:
    """What these events leave. Raises ValueError when they make no sense."""
    table = TrialTable()
    for kind, number, payload in events:
        try:
            table.apply(kind, number, payload)
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(f"event '{kind}' of trial {number} makes no sense: {error}") from None
    return table


def stored_table(store: Store) -> TrialTable:
    """What the events in `store` leave. Raises StorageError when they make no sense."""
    try:
        return replay(store.events())
    except ValueError as error:
        raise store.damaged(str(error)) from None
