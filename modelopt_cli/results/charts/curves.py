"""The curves of all trials, step by step: which were stopped early, and how far the best stood out."""

from __future__ import annotations

from modelopt_cli.results.charts._axes import drawn_range
from modelopt_cli.results.charts._curves import curves_of
from modelopt_cli.results.charts._states import coloured, counts
from modelopt_cli.results.charts._trials import trials_of
from modelopt_cli.results.charts.chart import INK, Chart, Panel, layer, quantitative, tooltip
from modelopt_cli.results.report import Report


def draw(report: Report) -> Chart | None:
    """Of a search whose trials report more than one step: a panel for each objective."""
    trials = trials_of(report)
    data, every = curves_of(report)
    if trials is None or not data or len(set(data["step"])) < 2:
        return None
    best = trials.best()
    drawn = set(data["trial"])
    rows = [row for row in trials.rows if row["trial"] in drawn]
    lookup = {
        "lookup": "trial",
        "from": {"data": {"name": "trials"}, "key": "trial", "fields": ["state", "reason"]},
    }
    panels, notes = [], []
    for index, (goal, _) in enumerate(trials.goals):
        values = [value for value in data[f"c{index}"] if value is not None]
        if not values:
            continue
        low, high, beyond = drawn_range(values, goal)
        if beyond:
            notes.append(f"{beyond} points of {goal.metric} far from the best are drawn at the edge.")
        encoding = {
            "x": quantitative("step", "step", axis={"tickMinStep": 1, "format": "d"}),
            "y": quantitative(f"c{index}", goal.metric, scale={"domain": [low, high], "nice": False, "clamp": True}),
            "detail": {"field": "trial", "type": "nominal"},
            "tooltip": tooltip(("trial", "trial"), ("state", "state"), ("reason", "reason")),
        }
        lines = layer(
            {"type": "line", "strokeWidth": 1.3, "opacity": 0.5, "cursor": "pointer"},
            {**encoding, **coloured(rows, shapes=False)},
        )
        ends = layer(
            {"type": "point", "filled": True, "size": 34, "opacity": 0.9, "cursor": "pointer"},
            {**encoding, **coloured(rows)},
            transform=[
                {"joinaggregate": [{"op": "max", "field": "step", "as": "last"}], "groupby": ["trial"]},
                {"filter": "datum.step == datum.last"},
            ],
        )
        layers = [lines, ends]
        if best is not None:
            number = best["trial"]
            layers.append(
                layer(
                    {"type": "line", "strokeWidth": 2.6, "color": INK, "cursor": "pointer"},
                    encoding,
                    transform=[{"filter": f"datum.trial == {number}"}],
                )
            )
        title = goal.metric if len(trials.goals) > 1 else ""
        panels.append(Panel({"data": {"name": "curves"}, "transform": [lookup], "layer": layers}, 300, title))
    if not panels:
        return None
    stopped = sum(row["state"] == "stopped" for row in trials.rows)
    marked = "" if best is None else f" The strong line is the best trial, {best['trial']}."
    thinned = f" Every {every}th step is drawn; curves.csv has them all." if every > 1 else ""
    early = f"{stopped} were ended early" if stopped else "none was ended early"
    return Chart(
        kind="curves",
        title="Curves of all trials",
        alt=f"A line for each of {len(set(data['trial']))} trials ({counts(rows)}); {early}.",
        panels=tuple(panels),
        data={"trials": trials.data(), "curves": data},
        note=" ".join(["Each line ends in a mark where its trial ended." + marked + thinned, *notes]),
    )
