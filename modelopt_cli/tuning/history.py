"""From a study's events to its trials: what each kind of event does to the list. Pure; replay is the only reader."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from modelopt_cli.tuning.trial import Point, State, Trial


def apply(trials: list[Trial], kind: str, number: int, payload: dict[str, Any]) -> None:
    """Change `trials` in place by one event."""
    if kind == "queued":
        trials.append(Trial(number, payload["params"], payload["seed"], origin=payload["origin"]))
        return
    trials[number] = _CHANGES[kind](trials[number], payload)


def _started(trial: Trial, payload: dict[str, Any]) -> Trial:
    """A paused trial goes on from its curve; a queued one begins anew."""
    curve = trial.curve if trial.state is State.PAUSED else ()
    return dataclasses.replace(trial, state=State.RUNNING, curve=curve)


def _reported(trial: Trial, payload: dict[str, Any]) -> Trial:
    losses = payload["losses"]
    point = Point(payload["step"], payload["metrics"], None if losses is None else tuple(losses))
    return dataclasses.replace(trial, curve=(*trial.curve, point))


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
        failure=payload["failure"],
        reason=payload["reason"],
        seconds=payload["seconds"],
    )


_CHANGES = {"started": _started, "reported": _reported, "paused": _paused, "told": _told}


def replay(events: Iterable[tuple[str, int, dict[str, Any]]]) -> list[Trial]:
    """The trials that these events leave."""
    trials: list[Trial] = []
    for kind, number, payload in events:
        apply(trials, kind, number, payload)
    return trials
