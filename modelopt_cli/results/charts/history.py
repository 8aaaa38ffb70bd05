"""How a search went: the value of each trial in the order in which they began, and the best so far."""

from __future__ import annotations

from typing import Any

from modelopt_cli.core.readable import number
from modelopt_cli.results.charts._axes import drawn_range
from modelopt_cli.results.charts._states import coloured, counts
from modelopt_cli.results.charts._trials import Trials, trials_of
from modelopt_cli.results.charts.chart import INK, Chart, Columns, Panel, columns_of, layer, quantitative, tooltip
from modelopt_cli.results.report import Report


def draw(report: Report) -> Chart | None:
    """Of a search: a panel for each objective."""
    trials = trials_of(report)
    if trials is None or not trials.finished():
        return None
    data: dict[str, Columns] = {"trials": trials.data()}
    panels, texts, notes = [], [], []
    failed = any(row["state"] == "failed" for row in trials.rows)
    for index, (goal, column) in enumerate(trials.goals):
        best = best_so_far(trials, index)
        data[f"history_{index}"] = columns_of(best, ["trial", "best"])
        values = [row[column] for row in trials.finished() if row.get(column) is not None]
        low, high, beyond = drawn_range(values, goal)
        y = quantitative(column, goal.metric, scale={"domain": [low, high], "nice": False, "clamp": True})
        x = quantitative("trial", "trial", axis={"tickMinStep": 1, "format": "d"})
        points = {
            "x": x,
            **coloured(trials.rows),
            "tooltip": tooltip(("trial", "trial"), ("state", "state"), (column, goal.metric), ("reason", "reason")),
        }
        layers = [
            layer(
                {"type": "line", "interpolate": "step-after", "color": INK, "strokeWidth": 1.8, "clip": True},
                {"x": x, "y": {**y, "field": "best"}},
                data={"name": f"history_{index}"},
            ),
            layer(
                {"type": "point", "filled": True, "size": 55, "opacity": 0.85, "cursor": "pointer"},
                {**points, "y": y},
                transform=[{"filter": f"isValid(datum.{column}) && datum.state != 'failed'"}],
            ),
        ]
        if failed:
            layers.append(
                layer(
                    {"type": "point", "filled": True, "size": 55, "cursor": "pointer"},
                    {**points, "y": {"value": "height"}},
                    transform=[{"filter": "datum.state == 'failed'"}],
                )
            )
        title = goal.metric if len(trials.goals) > 1 else ""
        panels.append(Panel({"data": {"name": "trials"}, "layer": layers}, 280, title))
        if best:
            at = next(row["trial"] for row in best if row["best"] == best[-1]["best"])
            way = f"from {number(best[0]['best'])} to {number(best[-1]['best'])}"
            texts.append(f"the best {goal.metric} so far went {way}, reached by trial {at}")
        if beyond:
            notes.append(f"{beyond} values of {goal.metric} far from the best are drawn at the edge.")
    if failed:
        notes.append("Failed trials have no value: they stand on the lower edge.")
    return Chart(
        kind="history",
        title="History of the search",
        alt=f"{len(trials.rows)} trials ({counts(trials.rows)}); " + "; ".join(texts or ["none is complete"]) + ".",
        panels=tuple(panels),
        data=data,
        note=" ".join(["The line is the best so far of complete trials.", *notes]),
    )


def best_so_far(trials: Trials, objective: int) -> list[dict[str, Any]]:
    """The steps of the line: from the first complete trial to the last trial."""
    goal, column = trials.goals[objective]
    rank = max if goal.maximize else min
    rows: list[dict[str, Any]] = []
    best: float | None = None
    for row in trials.finished():
        value = row.get(column)
        if value is None or row["state"] != "completed" or row.get("feasible") is False:
            continue
        best = value if best is None else rank(best, value)
        rows.append({"trial": row["trial"], "best": best})
    if rows:
        rows.append({"trial": trials.rows[-1]["trial"], "best": best})
    return rows
