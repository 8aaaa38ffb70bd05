"""The trials of a search with several objectives, two of these at a time, and the front: those that none beats."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.readable import number
from modelopt_cli.results.charts._axes import drawn_range
from modelopt_cli.results.charts._states import coloured
from modelopt_cli.results.charts._trials import text_of, trials_of
from modelopt_cli.results.charts.chart import INK, Chart, Panel, columns_of, layer, quantitative, tooltip
from modelopt_cli.results.report import Report


def draw(report: Report) -> Chart | None:
    """Of a search with two objectives or more: a panel for each pair."""
    trials = trials_of(report)
    front = set(report.details.get("front", []))
    if trials is None or len(trials.goals) < 2 or not trials.finished():
        return None
    rows: list[dict[str, Any]] = [
        {
            **{name: row.get(name) for name in ("trial", "state")},
            **{column: row.get(column) for _, column in trials.goals},
            "front": row["trial"] in front,
            "settings": text_of(
                {each.path: row[each.column] for each in trials.settings if row[each.column] is not None}
            ),
        }
        for row in trials.finished()
    ]
    panels = []
    for (first, x), (second, y) in combinations(trials.goals, 2):
        ranges = [
            _range([row for row in rows if row[column] is not None], goal, column)
            for goal, column in ((first, x), (second, y))
        ]
        axes = [
            quantitative(column, f"{goal.metric} ({'higher' if goal.maximize else 'lower'} is better)",
                         scale={"domain": list(reach[:2]), "nice": False, "clamp": True})
            for (goal, column), reach in zip(((first, x), (second, y)), ranges, strict=True)
        ]  # fmt: skip
        encoding = {
            "x": axes[0],
            "y": axes[1],
            "tooltip": tooltip(
                ("trial", "trial"), ("state", "state"), (x, first.metric), (y, second.metric), ("settings", "settings")
            ),
        }
        on_front = {"filter": "datum.front"}
        layers = [
            layer(
                {"type": "point", "filled": True, "size": 45, "opacity": 0.35, "cursor": "pointer"},
                {**encoding, **coloured(rows)},
                transform=[{"filter": "!datum.front"}],
            ),
            layer(
                {
                    "type": "point",
                    "filled": True,
                    "size": 85,
                    "cursor": "pointer",
                    "strokeWidth": 1.4,
                    "stroke": "white",
                },
                {**encoding, **coloured(rows)},
                transform=[on_front],
            ),
        ]
        number_of = {"text": {"field": "trial"}, "x": axes[0], "y": axes[1]}
        mark = {"type": "text", "dx": 7, "dy": -8, "align": "left", "fontSize": 10, "color": INK}
        layers.append(layer(mark, number_of, transform=[on_front]))
        if len(trials.goals) == 2:
            step = "step-before" if first.maximize else "step-after"  # around what the front attains
            line = {"type": "line", "color": INK, "strokeWidth": 1.2, "opacity": 0.7, "interpolate": step}
            layers.insert(0, layer(line, {"x": axes[0], "y": axes[1]}, transform=[on_front]))
        title = f"{first.metric} against {second.metric}" if len(trials.goals) > 2 else ""
        panels.append(Panel({"data": {"name": "front"}, "layer": layers}, 340, title))
    ends = []
    for goal, column in trials.goals:
        values = [row[column] for row in rows if row["front"] and row[column] is not None]
        if values:
            ends.append(f"{goal.metric} from {number(min(values))} to {number(max(values))}")
    return Chart(
        kind="front",
        title="Front of best compromises",
        alt=f"{len(front)} of {len(rows)} trials are on the front: {', '.join(ends)}.",
        panels=tuple(panels),
        data={"front": columns_of(rows)},
        note="Strong, with its number: no other trial is better in one objective and at least as good in the others. "
        "Pale: beaten.",
        least=0 if len(panels) == 1 else 380,
    )


def _range(rows: list[dict[str, Any]], goal: Goal, column: str) -> tuple[float, float, int]:
    """How far an axis goes: as in other charts, and over the whole front."""
    low, high, beyond = drawn_range([row[column] for row in rows], goal)
    shown = [row[column] for row in rows if row["front"]]
    margin = 0.04 * (high - low)
    return min([low, *(value - margin for value in shown)]), max([high, *(value + margin for value in shown)]), beyond
