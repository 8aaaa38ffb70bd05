"""The trials of a search with several objectives, two of these at a time, and the front: those that none beats.

What costs lies on the horizontal axis where what is wanted can stand upright, by logarithms where it spans much.
Beside the trials stands what they are compared with: the file's own values, and the model that a pruning, a
distillation or a compression began with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.readable import measure, number, plural
from modelopt_cli.results.charts._axes import drawn_range
from modelopt_cli.results.charts._trials import Trials, text_of, trials_of
from modelopt_cli.results.charts.chart import INK, Chart, Panel, Spec, columns_of, layer, quantitative, tooltip
from modelopt_cli.results.picking import CHECKPOINT, SAME_AS
from modelopt_cli.results.report import Report

_LETTER, _LINE = 0.014, 0.045  # of a drawing of 500 x 360: how wide a letter of a label is, how high a line
_SETTINGS = 8  # so many stand under the pointer, each by itself
_WIDE = 8.0  # times its lowest value, from which on an axis of costs is one of logarithms
_FRONT, _BEATEN, _STOPPED, _OWN, _BEFORE = (
    "on the front",
    "beaten",
    "stopped",
    "the file's own",
    "before",
)
_LOOKS = {  # colour, shape
    _FRONT: ("#2f7ed8", "circle"),
    _BEATEN: ("#9aa1ad", "circle"),
    _STOPPED: ("#b9bec8", "triangle-down"),
    _OWN: ("#d55e00", "diamond"),
    _BEFORE: ("#009e73", "square"),
}
_COSTS = {
    "model.parameters": "parameters",
    "model.macs": "multiply-accumulates",
    "model.size_bytes": "bytes of tensors",
}
"""Metrics -> what the table of costs calls them."""


@dataclass(frozen=True)
class _Axis:
    """One objective: its column, and how its axis goes."""

    goal: Goal
    column: str
    low: float
    high: float
    log: bool

    def share(self, value: float) -> float:
        """Where on the axis it lies: 0 at its beginning, 1 at its end."""
        ends = self.low, self.high
        low, high, value = (math.log10(each) if self.log else each for each in (*ends, value))
        return (value - low) / (high - low)

    def encoding(self) -> Spec:
        better = "higher" if self.goal.maximize else "lower"
        scale: dict[str, Any] = {"domain": [self.low, self.high], "nice": False, "clamp": True}
        if self.log:
            scale["type"] = "log"
        axis = {"tickCount": 5, "format": "~s"} if abs(self.high) >= 10_000 else {}
        return quantitative(self.column, f"{self.goal.metric} ({better} is better)", scale=scale, axis=axis)


def draw(report: Report) -> Chart | None:
    """Of a search with two objectives or more: a panel for each pair."""
    trials = trials_of(report)
    front = set(report.details.get("front", []))
    if trials is None or len(trials.goals) < 2 or not trials.finished():
        return None
    rows = [*_trial_rows(report, trials, front), *_references(report, trials)]
    axes = [_axis(goal, column, rows) for goal, column in trials.goals]
    settings = [(each.column, each.name) for each in trials.settings]
    panels = []
    for panel, (first, second) in enumerate(combinations(axes, 2)):
        x, y = (second, first) if first.goal.maximize and not second.goal.maximize else (first, second)
        title = f"{y.goal.metric} against {x.goal.metric}" if len(axes) > 2 else ""
        shown = f"label_{panel}"
        _label(rows, x, y, shown)
        layers = _layers(x, y, axes, rows, settings, shown)
        panels.append(Panel({"data": {"name": "front"}, "layer": layers}, 360, title))
    return Chart(
        kind="front",
        title="Front of best compromises",
        alt=_alt(trials, rows),
        panels=tuple(panels),
        data={"front": columns_of(rows)},
        note=_note(report, trials, rows),
        least=0 if len(panels) == 1 else 380,
    )


def _trial_rows(report: Report, trials: Trials, front: set[int]) -> list[dict[str, Any]]:
    """Those that ended with values; of points of the front that are equal the first is labelled with all numbers."""
    kept = {
        int(number): row.get(CHECKPOINT)
        for row in report.records("front")
        for number in (row["trial"], *str(row.get(SAME_AS) or "").split())
    }
    columns = [column for _, column in trials.goals]
    labels: dict[tuple[Any, ...], list[int]] = {}
    rows = []
    for row in trials.finished():
        on_front = row["trial"] in front
        values = tuple(row.get(column) for column in columns)
        if on_front:
            labels.setdefault(values, []).append(row["trial"])
        given = {each.path: row[each.column] for each in trials.settings[_SETTINGS:] if row[each.column] is not None}
        rows.append(
            {
                "trial": row["trial"],
                "state": row["state"],
                **dict(zip(columns, values, strict=True)),
                "front": on_front,
                **{each.column: row[each.column] for each in trials.settings},
                "what": _FRONT if on_front else _STOPPED if row["state"] == "stopped" else _BEATEN,
                "settings": text_of(given),
                "checkpoint": kept.get(row["trial"]) or "",
                "reason": row.get("reason") or "",
            }
        )
    for row in rows:
        alike = labels.get(tuple(row[column] for column in columns), [])
        first = row["front"] and alike[0] == row["trial"]
        row["label"] = (", ".join(map(str, alike[:3])) + ("…" if len(alike) > 3 else "")) if first else ""
    return rows


def _references(report: Report, trials: Trials) -> Iterator[dict[str, Any]]:
    """What the trials are compared with, beside each other: the file's own values; the model that it began with."""
    columns = {goal.metric: column for goal, column in trials.goals}
    own = (report.details.get("baseline") or {}).get("trial")
    mine = next((row for row in trials.finished() if row["trial"] == own), None)
    if mine is not None:
        values = {column: mine.get(column) for column in columns.values()}
        yield {"trial": own, "state": mine["state"], **values, "what": _OWN, "settings": "the file's own values"}
    before = _before(report)
    values = {column: before.get(metric) for metric, column in columns.items()}
    if sum(value is not None for value in values.values()) > 1:
        of = f" trial {report.best['number']}" if report.best is not None else ""
        yield {"trial": None, "state": "", **values, "what": _BEFORE, "settings": f"what{of} was made of"}


def _before(report: Report) -> Mapping[str, Any]:
    """Metrics of the model that the best trial's one was made of: the first stage's, or the teacher's."""
    rows = report.records("stages") or [row for row in report.records("learners") if row.get("learner") == "teacher"]
    if not rows:
        return {}
    costs = {row["what"]: row.get("before", row.get("teacher")) for row in report.records("costs")}
    return {**{metric: costs.get(what) for metric, what in _COSTS.items()}, **rows[0]}


def _axis(goal: Goal, column: str, rows: Sequence[Mapping[str, Any]]) -> _Axis:
    """How far it goes: as in other charts, over the whole front, and what trials are compared with."""
    values = [row[column] for row in rows if row.get(column) is not None]
    shown = [row[column] for row in rows if row.get(column) is not None and row["what"] in (_FRONT, _OWN, _BEFORE)]
    log = not goal.maximize and min(values) > 0 and max([*shown, min(values)]) / min(values) >= _WIDE
    if log:
        values, shown = [math.log10(value) for value in values], [math.log10(value) for value in shown]
    low, high, _ = drawn_range(values, goal)
    margin = 0.04 * (high - low)
    low, high = min([low, *(value - margin for value in shown)]), max([high, *(value + margin for value in shown)])
    return _Axis(goal, column, 10**low if log else low, 10**high if log else high, log)


def _label(rows: Sequence[dict[str, Any]], x: _Axis, y: _Axis, name: str) -> None:
    """Adds the column `name`: the label of each point where it has room beside those that have theirs, else nothing.

    The outermost points have theirs in any case, then the others in the order of the horizontal axis.
    """
    labelled = [row for row in rows if row.get("label") and row[x.column] is not None and row[y.column] is not None]
    labelled.sort(key=lambda row: float(row[x.column]))
    placed: list[tuple[float, float, float]] = []  # horizontal, vertical, width; as shares of the drawing
    for row in rows:
        row[name] = ""
    for row in [*labelled[:1], *labelled[1:][-1:], *labelled[1:-1]]:
        left, up, width = x.share(row[x.column]), y.share(row[y.column]), _LETTER * len(row["label"])
        if all(abs(up - v) >= _LINE or left + width < h or h + w < left for h, v, w in placed):
            placed.append((left, up, width))
            row[name] = row["label"]


def _layers(
    x: _Axis,
    y: _Axis,
    axes: Sequence[_Axis],
    rows: Sequence[Mapping[str, Any]],
    settings: Sequence[tuple[str, str]],
    label: str,
) -> list[Spec]:
    there = [what for what in _LOOKS if any(row["what"] == what for row in rows)]
    looks = [_LOOKS[what] for what in there]
    colour = {"domain": there, "range": [look[0] for look in looks]}
    shape = {"domain": there, "range": [look[1] for look in looks]}
    legend = {"title": None, "symbolSize": 80, "symbolOpacity": 1, "columns": 5 if len(there) < 5 else 3}
    position = {"x": x.encoding(), "y": y.encoding()}
    encoding = {
        **position,
        "color": {"field": "what", "type": "nominal", "scale": colour, "legend": legend},
        "shape": {"field": "what", "type": "nominal", "scale": shape, "legend": legend},
    }
    measured = [("trial", "trial"), *((axis.column, axis.goal.metric) for axis in axes)]
    about = [*measured, *settings[:_SETTINGS], *([("settings", "and")] if len(settings) > _SETTINGS else [])]
    mark = {"type": "point", "filled": True, "cursor": "pointer"}
    drawn = f"isValid(datum.{x.column}) && isValid(datum.{y.column})"

    def of(*kinds: str) -> list[Spec]:
        return [{"filter": f"{drawn} && indexof({list(kinds)}, datum.what) >= 0"}]

    layers = [
        layer({**mark, "size": 40, "opacity": 0.55}, {**encoding, "tooltip": tooltip(*about)}, transform=of(_BEATEN)),
        layer(
            {**mark, "size": 40, "opacity": 0.55},
            {**encoding, "tooltip": tooltip(*about, ("reason", "stopped because"))},
            transform=of(_STOPPED),
        ),
        layer(
            {**mark, "size": 95, "opacity": 1, "stroke": {"expr": "paper"}, "strokeWidth": 1.2},
            {**encoding, "tooltip": tooltip(*about, ("checkpoint", "model"))},
            transform=of(_FRONT),
        ),
        layer(
            {**mark, "size": 150, "opacity": 1, "filled": False, "strokeWidth": 2.5},
            {**encoding, "tooltip": tooltip(*measured, ("settings", "what"))},
            transform=of(_OWN, _BEFORE),
        ),
    ]
    name = {"type": "text", "dx": 8, "dy": 11, "align": "left", "fontSize": 10.5}
    on_front = {"filter": f"{drawn} && datum.front"}
    labels = {**position, "text": {"field": label}}
    layers += [
        layer({**name, "style": "halo"}, labels, transform=[on_front]),
        layer({**name, "color": INK}, labels, transform=[on_front]),
    ]
    if len(axes) == 2:
        step = "step-before" if x.goal.maximize else "step-after"  # around what the front attains
        line = {"type": "line", "color": _LOOKS[_FRONT][0], "strokeWidth": 1.6, "opacity": 0.75, "interpolate": step}
        layers.insert(0, layer(line, position, transform=[on_front]))
    return layers


def _alt(trials: Trials, rows: Sequence[Mapping[str, Any]]) -> str:
    ends = []
    for goal, column in trials.goals:
        values = [row[column] for row in rows if row["what"] == _FRONT and row[column] is not None]
        if values:
            ends.append(f"{goal.metric} from {number(min(values))} to {number(max(values))}")
    on_front = sum(row["what"] == _FRONT for row in rows)
    ended = sum(row["what"] in (_FRONT, _BEATEN, _STOPPED) for row in rows)
    return f"{on_front} of {ended} trials are on the front: {', '.join(ends)}."


def _note(report: Report, trials: Trials, rows: Sequence[Mapping[str, Any]]) -> str:
    notes = ["Blue, with its number: no other trial is better in one objective and at least as good in the others."]
    before = next((row for row in rows if row["what"] == _BEFORE), None)
    if before is not None:
        known = [(goal, before[column]) for goal, column in trials.goals if before.get(column) is not None]
        values = ", ".join(f"{goal.metric} {measure(goal.metric, value)}" for goal, value in known)
        of = f"the model of trial {report.best['number']}" if report.best is not None else "it"
        notes.append(f"Before: what {of} was made of ({values}).")
    failed = sum(row["state"] == "failed" for row in trials.rows)
    if failed:
        notes.append(f"{plural(failed, 'failed trial')} {'has' if failed == 1 else 'have'} no place here.")
    return " ".join(notes)
