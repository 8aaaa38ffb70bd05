"""Colour and shape of a trial's state, alike in every chart of trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelopt_cli.results.charts.chart import Spec
from modelopt_cli.results.charts.theme import STATE_COLOURS, STATE_SHAPES, STATES


def states_in(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The states that occur, in the order of the legend; others (interrupted) after them."""
    there = {row["state"] for row in rows}
    return [*(state for state in STATES if state in there), *sorted(there - set(STATES))]


def coloured(rows: Sequence[Mapping[str, Any]], *, shapes: bool = True) -> Spec:
    """The encoding of colour and, with `shapes`, of shape by state."""
    states = states_in(rows)
    colours = [STATE_COLOURS[STATES.index(state)] if state in STATES else "#8a8f98" for state in states]
    forms = [STATE_SHAPES[STATES.index(state)] if state in STATES else "stroke" for state in states]
    encoding: Spec = {
        "color": {"field": "state", "type": "nominal", "scale": {"domain": states, "range": colours}, "title": None}
    }
    if shapes:
        scale = {"domain": states, "range": forms}
        encoding["shape"] = {"field": "state", "type": "nominal", "scale": scale, "title": None}
    return encoding


def counts(rows: Sequence[Mapping[str, Any]]) -> str:
    """`31 completed, 7 stopped, 2 failed`."""
    return ", ".join(f"{sum(row['state'] == state for row in rows)} {state}" for state in states_in(rows))
