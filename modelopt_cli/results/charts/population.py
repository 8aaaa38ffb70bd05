"""Population-based training: which settings each member held, step by step, and from whom it went on."""

from __future__ import annotations

from typing import Any

from modelopt_cli.results.charts._states import coloured
from modelopt_cli.results.charts._trials import trials_of
from modelopt_cli.results.charts.chart import Chart, Panel, columns_of, layer, quantitative, tooltip
from modelopt_cli.results.report import Report

_MOST = 9


def draw(report: Report) -> Chart | None:
    """Of a search whose trials went on from others' states: a panel for each setting that is a number."""
    trials = trials_of(report)
    if trials is None or not any(row.get("parent") is not None for row in trials.rows):
        return None
    by_number = {row["trial"]: row for row in trials.rows}
    held: list[dict[str, Any]] = []
    moves: list[dict[str, Any]] = []
    settings = [setting for setting in trials.settings if setting.numeric][:_MOST]
    for row in trials.rows:
        born = row.get("born") or 0
        values = {setting.column: row[setting.column] for setting in settings}
        held.append(
            {"trial": row["trial"], "state": row["state"], "from": born, "to": row.get("steps") or born, **values}
        )
        parent = by_number.get(row.get("parent"))
        if parent is not None:
            before = {f"{setting.column}_before": parent[setting.column] for setting in settings}
            moves.append({"trial": row["trial"], "at": born, **values, **before})
    panels = []
    for setting in settings:
        scale = {"type": "log"} if setting.log else {"zero": False}
        x = quantitative("from", "step")
        y = quantitative(
            setting.column, setting.name, scale=scale, axis={"format": ".4~g", "tickCount": 5, "grid": not setting.log}
        )
        labels = tooltip(("trial", "trial"), (setting.column, setting.name), ("from", "from step"), ("to", "to step"))
        stays = layer(
            {"type": "rule", "strokeWidth": 2.5, "opacity": 0.8, "cursor": "pointer"},
            {"x": x, "x2": {"field": "to"}, "y": y, **coloured(trials.rows, shapes=False), "tooltip": labels},
            data={"name": "population_held"},
        )
        copies = layer(
            {"type": "rule", "strokeDash": [3, 3], "strokeWidth": 1, "color": {"expr": "ink"}, "opacity": 0.4},
            {
                "x": {**x, "field": "at"},
                "y": {**y, "field": f"{setting.column}_before"},
                "y2": {"field": setting.column},
            },
            data={"name": "population_moves"},
        )
        panels.append(Panel({"layer": [copies, stays]}, 220, setting.name))
    if not panels:
        return None
    return Chart(
        kind="population",
        title="Schedules of the population",
        alt=f"{len(moves)} times a member went on from another one's state with changed settings.",
        panels=tuple(panels),
        data={"population_held": columns_of(held), "population_moves": columns_of(moves)},
        note="A line: a setting that a trial held. A dashed line leads to it from the trial that it copied.",
        least=330,
    )
