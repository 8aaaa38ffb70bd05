"""Each setting against the objective: a panel a setting, a point a trial."""

from __future__ import annotations

from modelopt_cli.results.charts._axes import drawn_range, flat
from modelopt_cli.results.charts._states import coloured
from modelopt_cli.results.charts._trials import Setting, trials_of
from modelopt_cli.results.charts.chart import Chart, Panel, Spec, quantitative, tooltip
from modelopt_cli.results.report import Report

_MOST = 16


def draw(report: Report) -> Chart | None:
    """Of a search: the most important settings first, where that is known."""
    trials = trials_of(report)
    if trials is None or len(trials.finished()) < 3 or not trials.settings:
        return None
    goal, column = trials.goals[0]
    low, high, _ = drawn_range([row[column] for row in trials.finished()], goal)
    ranks = {row["path"]: -(row["importance"] or 0.0) for row in reversed(report.records("importance"))}
    settings = sorted(trials.settings, key=lambda setting: ranks.get(setting.path, 1.0))
    panels = []
    for setting in settings[:_MOST]:
        encoding = {
            "x": axis_of(setting),
            "y": quantitative(column, goal.metric, scale={"domain": [low, high], "nice": False, "clamp": True}),
            **coloured(trials.rows),
            "tooltip": tooltip(("trial", "trial"), (setting.column, setting.name), (column, goal.metric)),
        }
        for channel in ("color", "shape"):
            encoding[channel] = {**encoding[channel], "legend": None}
        spec = {
            "data": {"name": "trials"},
            "transform": [
                {"filter": f"isValid(datum.{setting.column}) && isValid(datum.{column}) && datum.state != 'failed'"}
            ],
            "mark": {"type": "point", "filled": True, "size": 36, "opacity": 0.7, "cursor": "pointer"},
            "encoding": encoding,
        }
        panels.append(Panel(spec, 190, setting.name))
    left = len(settings) - len(panels)
    return Chart(
        kind="slices",
        title="Slices: each setting against the objective",
        alt=f"{goal.metric} against each of {len(panels)} settings, a point a trial.",
        panels=tuple(panels),
        data={"trials": trials.data()},
        note=f"{left} more settings are in trials.csv." if left else "",
        least=250,
    )


def axis_of(setting: Setting) -> Spec:
    """The axis of a setting's values, which lie in its column of the data set `trials`."""
    if not setting.numeric:
        return {
            "field": setting.column,
            "type": "nominal",
            "title": None,
            "axis": flat(setting.values),
        }
    scale = {"type": "log"} if setting.log else {"zero": False}
    return quantitative(setting.column, None, scale=scale, axis={"tickCount": 5, "format": ".4~g"})
