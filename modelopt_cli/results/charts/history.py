"""How a search went: the value of each trial in the order in which they began, and the best so far."""

from __future__ import annotations

from modelopt_cli.core.readable import number
from modelopt_cli.results.charts._axes import drawn_range
from modelopt_cli.results.charts._trials import trials_of
from modelopt_cli.results.charts.chart import Chart, Panel, columns_of, layer, quantitative, tooltip
from modelopt_cli.results.charts.theme import STATE_COLOURS, STATE_SHAPES, STATES
from modelopt_cli.results.report import Report


def draw(report: Report) -> Chart | None:
    """Of a search: a panel for each objective."""
    trials = trials_of(report)
    if trials is None or not trials.finished():
        return None
    failed = [row for row in trials.rows if row["state"] == "failed"]
    data = {"trials": trials.data(), "history_best": {}}
    panels, texts, notes = [], [], []
    for index, (goal, column) in enumerate(trials.goals):
        finished = [row for row in trials.finished() if row.get(column) is not None]
        best_name, rank = f"best{index}", max if goal.maximize else min
        best_rows, best = [], None
        for row in finished:
            if row["state"] == "completed" and row.get("feasible") is not False:
                best = row[column] if best is None else rank(best, row[column])
            if best is not None:
                best_rows.append({"trial": row["trial"], "best": best})
        if best_rows:
            best_rows.append({"trial": trials.rows[-1]["trial"], "best": best_rows[-1]["best"]})
        data[f"history_{best_name}"] = columns_of(best_rows, ["trial", "best"])
        low, high, clipped = drawn_range([row[column] for row in finished], goal)
        states = [state for state in STATES if any(row["state"] == state for row in trials.rows)]
        scale = {"domain": states, "range": [STATE_COLOURS[STATES.index(state)] for state in states]}
        shapes = {"domain": states, "range": [STATE_SHAPES[STATES.index(state)] for state in states]}
        y = quantitative(
            column, goal.metric, scale={"domain": [low, high], "nice": False, "clamp": True, "zero": False}
        )
        x = quantitative("trial", "trial", axis={"tickMinStep": 1, "format": "d"})
        point = {
            "x": x,
            "color": {"field": "state", "type": "nominal", "scale": scale, "title": None},
            "shape": {"field": "state", "type": "nominal", "scale": shapes, "title": None},
            "tooltip": tooltip(("trial", "trial"), ("state", "state"), (column, goal.metric), ("reason", "reason")),
        }
        layers = [
            layer(
                {"type": "line", "interpolate": "step-after", "style": "best", "strokeWidth": 1.8, "clip": True},
                {"x": x, "y": quantitative("best", None, scale={"zero": False})},
                data={"name": f"history_{best_name}"},
            ),
            layer(
                {"type": "point", "filled": True, "size": 55, "opacity": 0.85, "cursor": "pointer"},
                {**point, "y": y},
                transform=[{"filter": f"isValid(datum.{column}) && datum.state != 'failed'"}],
            ),
        ]
        if failed:
            layers.append(
                layer(
                    {"type": "point", "filled": True, "size": 55, "cursor": "pointer"},
                    {**point, "y": {"value": "height"}},
                    transform=[{"filter": "datum.state == 'failed'"}],
                )
            )
        panels.append(Panel({"data": {"name": "trials"}, "layer": layers}, 280, goal.metric if index else ""))
        if best_rows:
            first, last = best_rows[0], best_rows[-1]
            at = next(row["trial"] for row in best_rows if row["best"] == last["best"])
            texts.append(
                f"{goal.metric} went from {number(first['best'])} to {number(last['best'])} (reached by trial {at})"
            )
        if clipped:
            notes.append(f"{clipped} values of {goal.metric} far from the best are drawn at the edge.")
    if failed:
        notes.append("Failed trials have no value; they stand on the lower edge.")
    del data["history_best"]
    counts = ", ".join(
        f"{sum(row['state'] == s for row in trials.rows)} {s}"
        for s in STATES
        if any(r["state"] == s for r in trials.rows)
    )
    return Chart(
        kind="history",
        title="History of the search",
        alt=f"{len(trials.rows)} trials ({counts}); best so far of " + "; ".join(texts or ["no complete trial"]) + ".",
        panels=tuple(panels),
        data=data,
        note=" ".join(["The line is the best so far of complete trials.", *notes]),
    )
