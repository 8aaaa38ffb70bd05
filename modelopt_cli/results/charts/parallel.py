"""Parallel coordinates: an axis a setting, a line a trial. Dragging along an axis keeps the lines that pass there.

Inselberg (1985). Written in Vega's own language, since Vega-Lite has no brush for each axis. Positions on the axes are
computed here, from 0 (bottom) to 1, so that the specification needs one scale for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from modelopt_cli.core.readable import number
from modelopt_cli.results.charts._axes import drawn_range
from modelopt_cli.results.charts._trials import Setting, Trials, trials_of
from modelopt_cli.results.charts.chart import VEGA, Chart, Panel, Spec, columns_of
from modelopt_cli.results.report import Report

_MOST = 11  # settings; the objective is one more axis
_MOST_TICKS = 6  # values up to which each is written at its axis
_UNSET = -0.1  # where a line passes an axis whose setting the trial does not have


def draw(report: Report) -> Chart | None:
    """Of a search: the most important settings stand next to the objective, where that is known."""
    trials = trials_of(report)
    if trials is None or len(trials.finished()) < 3 or not trials.settings:
        return None
    ranks = {row["path"]: row["importance"] or 0.0 for row in reversed(report.records("importance"))}
    settings = sorted(trials.settings, key=lambda setting: -ranks.get(setting.path, 0.0))[:_MOST][::-1]
    axes = [_Axis.of_setting(setting, trials.rows) for setting in settings]
    axes += [_Axis.of_objective(trials, index) for index in range(len(trials.goals))]
    goal, column = trials.goals[0]
    last = axes[len(settings)]
    rows = []
    for row in trials.finished():
        if row.get(column) is None:
            continue
        positions = {f"y{index}": axis.position(row.get(axis.column)) for index, axis in enumerate(axes)}
        height = last.position(row[column])
        rows.append({"trial": row["trial"], "good": height if goal.maximize else 1 - height, **positions})
    rows.sort(key=lambda row: row["good"])  # the best are drawn last, above the others
    ticks = [
        {"axis": index, "y": position, "text": text}
        for index, axis in enumerate(axes)
        for position, text in axis.ticks(any(row[f"y{index}"] == _UNSET for row in rows))
    ]
    titles = [{"axis": index, "title": axis.title} for index, axis in enumerate(axes)]
    left = len(trials.settings) - len(settings)
    return Chart(
        kind="parallel",
        title="Parallel coordinates",
        alt=f"{len(rows)} trials as lines over {len(settings)} settings and {goal.metric}; the best are the strongest.",
        panels=(Panel(_spec(len(axes)), 320),),
        data={
            "parallel_lines": columns_of(rows),
            "parallel_ticks": columns_of(ticks, ["axis", "y", "text"]),
            "parallel_axes": columns_of(titles, ["axis", "title"]),
        },
        note="Drag along an axis to keep the trials that pass there, on several axes if you like; a double click "
        "on an axis frees it again. A click on a line shows its trial."
        + (f" {left} settings of less importance are left out." if left else ""),
    )


class _Axis:
    """Where values lie on an axis, and what is written beside it."""

    def __init__(
        self,
        column: str,
        title: str,
        low: float,
        high: float,
        log: bool,
        names: Sequence[str] = (),
        *,
        tried: Sequence[float] = (),
    ) -> None:
        self.column, self.title = column, title
        self._low, self._high, self._log, self._names, self._tried = low, high, log, list(names), list(tried)

    @classmethod
    def of_setting(cls, setting: Setting, rows: Sequence[Mapping[str, Any]]) -> _Axis:
        if not setting.numeric:
            return cls(setting.column, setting.name, 0, 1, False, setting.values)
        values = sorted({float(row[setting.column]) for row in rows if row[setting.column] is not None})
        tried = values if len(values) <= _MOST_TICKS else ()
        return cls(setting.column, setting.name, values[0], values[-1], setting.log, tried=tried)

    @classmethod
    def of_objective(cls, trials: Trials, index: int) -> _Axis:
        goal, column = trials.goals[index]
        values = [row[column] for row in trials.finished() if row.get(column) is not None]
        low, high, beyond = drawn_range(values, goal)
        if not beyond:
            low, high = min(values), max(values)
        return cls(column, goal.metric, low, high, False)

    def position(self, value: Any) -> float:
        """From 0 to 1, values beyond the axis at its end; _UNSET for none."""
        if value is None:
            return _UNSET
        if self._names:
            return self._names.index(str(value)) / max(1, len(self._names) - 1) if len(self._names) > 1 else 0.5
        low, high, at = (self._scaled(each) for each in (self._low, self._high, float(value)))
        return 0.5 if high == low else min(1.0, max(0.0, (at - low) / (high - low)))

    def ticks(self, unset: bool) -> list[tuple[float, str]]:
        """(position, text) pairs; a name each for a few categories, else five numbers."""
        more = [(_UNSET, "not set")] if unset else []
        if self._names:
            every = -(-len(self._names) // 12)
            return [*((self.position(name), name[:18]) for name in self._names[::every]), *more]
        if self._tried:
            return [*((self.position(value), _tick_text(value)) for value in self._tried), *more]
        if self._low == self._high:
            return [(0.5, number(self._low)), *more]
        return [*((share, _tick_text(self._value(share))) for share in (0.0, 0.25, 0.5, 0.75, 1.0)), *more]

    def _scaled(self, value: float) -> float:
        return math.log(value) if self._log else value

    def _value(self, share: float) -> float:
        low, high = self._scaled(self._low), self._scaled(self._high)
        at = low + share * (high - low)
        return math.exp(at) if self._log else at


def _tick_text(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def _spec(axes: int) -> Spec:
    """The specification for so many axes. Each has a signal, the stretch of it that is kept."""
    kept = " && ".join(f"(abs(span(kept{i})) < 0.01 || inrange(datum.y{i}, kept{i}))" for i in range(axes))
    path = " + ".join(
        f"'{'M' if i == 0 else 'L'}' + scale('across', {i}) + ',' + scale('along', datum.y{i})" for i in range(axes)
    )
    pointer = "clamp(invert('along', y()), -0.1, 1)"
    signals: list[Spec] = [
        {
            "name": f"kept{i}",
            "value": [0, 0],
            "on": [
                {"events": f"@grip{i}:pointerdown", "update": f"[{pointer}, {pointer}]"},
                {
                    "events": f"[@grip{i}:pointerdown, window:pointerup] > window:pointermove!",
                    "update": f"[kept{i}[0], {pointer}]",
                },
                {"events": f"@grip{i}:dblclick", "update": "[0, 0]"},
            ],
        }
        for i in range(axes)
    ]
    grips: list[Spec] = []
    for i in range(axes):
        stretch = f"abs(span(kept{i})) < 0.01"
        box = {
            "type": "rect",
            "interactive": False,
            "encode": {
                "update": {
                    "x": {"signal": f"scale('across', {i}) - 9"},
                    "width": {"value": 18},
                    "y": {"signal": f"scale('along', max(kept{i}[0], kept{i}[1]))"},
                    "y2": {"signal": f"scale('along', min(kept{i}[0], kept{i}[1]))"},
                    "fill": {"value": "#d98a00"},
                    "fillOpacity": {"signal": f"{stretch} ? 0 : 0.3"},
                    "stroke": {"value": "#d98a00"},
                    "strokeOpacity": {"signal": f"{stretch} ? 0 : 1"},
                }
            },
        }
        grip = {
            "type": "rect",
            "name": f"grip{i}",
            "encode": {
                "enter": {"fill": {"value": "transparent"}, "cursor": {"value": "ns-resize"}},
                "update": {
                    "x": {"signal": f"scale('across', {i}) - 9"},
                    "width": {"value": 18},
                    "y": {"signal": "scale('along', 1) - 4"},
                    "y2": {"signal": "scale('along', -0.1) + 4"},
                },
            },
        }
        grips += [box, grip]
    return {
        "$schema": VEGA,
        "signals": signals,
        "data": [
            {"name": "parallel_lines"},
            {"name": "parallel_ticks"},
            {"name": "parallel_axes"},
            {
                "name": "kept",
                "source": "parallel_lines",
                "transform": [{"type": "filter", "expr": kept}, {"type": "aggregate"}],
            },
        ],
        "scales": [
            {"name": "across", "type": "linear", "domain": [0, max(1, axes - 1)], "range": "width", "zero": False},
            {"name": "along", "type": "linear", "domain": [_UNSET, 1], "range": "height", "zero": False, "nice": False},
            {"name": "goodness", "type": "linear", "domain": [-0.35, 1], "range": "ramp", "zero": False},
        ],
        "marks": [
            {
                "type": "rule",
                "from": {"data": "parallel_axes"},
                "style": ["soft"],
                "encode": {
                    "update": {
                        "x": {"scale": "across", "field": "axis"},
                        "y": {"signal": "scale('along', 1)"},
                        "y2": {"signal": "scale('along', 0)"},
                        "strokeWidth": {"value": 1.2},
                    }
                },
            },
            {
                "type": "path",
                "from": {"data": "parallel_lines"},
                "encode": {
                    "enter": {"cursor": {"value": "pointer"}, "fill": {"value": "transparent"}},
                    "update": {
                        "path": {"signal": path},
                        "stroke": {"scale": "goodness", "field": "good"},
                        "strokeWidth": {"value": 1.4},
                        "strokeOpacity": {"signal": f"({kept}) ? 0.15 + 0.8 * datum.good * datum.good : 0.04"},
                        "tooltip": {"signal": "{'trial': datum.trial}"},
                    },
                    "hover": {"strokeWidth": {"value": 3}, "stroke": {"value": "#d98a00"}},
                },
            },
            *[_tick(style) for style in ("halo", "label")],
            {
                "type": "text",
                "from": {"data": "parallel_axes"},
                "style": ["label"],
                "interactive": False,
                "encode": {
                    "update": {
                        "x": {"signal": "scale('across', datum.axis)"},
                        "y": {"value": -12},
                        "text": {"field": "title"},
                        "angle": {"value": -18},
                        "align": {"value": "left"},
                        "fontSize": {"value": 11},
                        "fontWeight": {"value": 600},
                        "limit": {"value": 150},
                    }
                },
            },
            {
                "type": "text",
                "from": {"data": "kept"},
                "style": ["label"],
                "interactive": False,
                "encode": {
                    "update": {
                        "x": {"signal": "width"},
                        "y": {"signal": "height + 18"},
                        "align": {"value": "right"},
                        "fontSize": {"value": 11},
                        "text": {"signal": "datum.count + ' of ' + length(data('parallel_lines')) + ' trials'"},
                    }
                },
            },
            *grips,
        ],
    }


def _tick(style: str) -> Spec:
    """The texts beside the axes: their halo, which keeps them legible above the lines, or themselves."""
    return {
        "type": "text",
        "from": {"data": "parallel_ticks"},
        "style": [style],
        "interactive": False,
        "encode": {
            "update": {
                "x": {"signal": "scale('across', datum.axis) - 6"},
                "y": {"scale": "along", "field": "y"},
                "text": {"field": "text"},
                "align": {"value": "right"},
                "baseline": {"value": "middle"},
                "fontSize": {"value": 10},
                "opacity": {"value": 0.8},
                "limit": {"value": 90},
            }
        },
    }
