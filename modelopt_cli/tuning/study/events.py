"""From a study's events to its trials: what each kind of event does to the list. Pure; replay is the only reader."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from modelopt_cli.tuning.trials.trial import Point, State, Trial

NO_TRIAL = -1
"""The trial of an event that is about none in particular: `decided`, what a scheduler was asked and what it said."""


class History:
    """The trials, in order of number, as the events so far have left them."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self._order = 0  # of the next point of a curve, among those of all curves

    def apply(self, kind: str, number: int, payload: dict[str, Any]) -> None:
        """Take over an event. Raises LookupError, TypeError, ValueError when it makes no sense."""
        if kind == "queued":
            self._queued(number, payload)
        elif kind == "reported":
            self.trials[number] = _reported(self.trials[number], payload, self._order)
            self._order += len(payload["points"])
        elif kind != "decided":  # what that led to has events of its own
            self.trials[number] = _CHANGES[kind](self.trials[number], payload)
            if kind in _VOIDING:
                self._order = 1 + max((trial.curve[-1].order for trial in self.trials if trial.curve), default=-1)

    def _queued(self, number: int, payload: dict[str, Any]) -> None:
        if number != len(self.trials):
            raise ValueError(f"trial {number} comes after {len(self.trials)} trials")
        parent, born = payload.get("parent"), payload.get("born", 0)
        origin = payload["origin"]
        self.trials.append(Trial(number, payload["params"], payload["seed"], origin=origin, parent=parent, born=born))


def _started(trial: Trial, payload: dict[str, Any]) -> Trial:
    """A paused trial goes on from its curve; a queued one has none."""
    return dataclasses.replace(trial, state=State.RUNNING, kept=len(trial.curve))


def _requeued(trial: Trial, payload: dict[str, Any]) -> Trial:
    """What it had reported is void: it will be run from the start, with the same number, setting and seed."""
    return dataclasses.replace(trial, state=State.QUEUED, curve=(), kept=0)


def _suspended(trial: Trial, payload: dict[str, Any]) -> Trial:
    """Paused as it was when it was last started; what it has reported since is void, and will be reported again."""
    return dataclasses.replace(trial, state=State.PAUSED, curve=trial.curve[: trial.kept])


def _reported(trial: Trial, payload: dict[str, Any], order: int) -> Trial:
    points = [
        Point(step, metrics, None if losses is None else tuple(losses), order + place)
        for place, (step, metrics, losses) in enumerate(payload["points"])
    ]
    return dataclasses.replace(trial, curve=(*trial.curve, *points), total=payload.get("total", trial.total))


def _paused(trial: Trial, payload: dict[str, Any]) -> Trial:
    return dataclasses.replace(trial, state=State.PAUSED)


def _told(trial: Trial, payload: dict[str, Any]) -> Trial:
    losses = payload["losses"]
    return dataclasses.replace(
        trial,
        state=State(payload["state"]),
        metrics=payload["metrics"],
        losses=None if losses is None else tuple(losses),
        violation=payload["violation"],
        margins=tuple(payload.get("margins", ())),  # events of older versions have none
        failure=payload["failure"],
        reason=payload["reason"],
        seconds=payload["seconds"],
        total=payload.get("total", trial.total),
    )


_CHANGES = {
    "started": _started,
    "requeued": _requeued,
    "suspended": _suspended,
    "paused": _paused,
    "told": _told,
}


_VOIDING = ("requeued", "suspended")  # take points of a curve back


def replay(events: Iterable[tuple[str, int, dict[str, Any]]]) -> History:
    """What these events leave. Raises ValueError when they make no sense."""
    history = History()
    for kind, number, payload in events:
        try:
            history.apply(kind, number, payload)
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(f"event '{kind}' of trial {number} makes no sense: {error}") from None
    return history
