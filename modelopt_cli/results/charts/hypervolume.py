"""How the front grew: its hypervolume after each trial."""

from __future__ import annotations

from modelopt_cli.core.readable import number
from modelopt_cli.results.charts.chart import Chart, Panel, columns_of, quantitative, tooltip
from modelopt_cli.results.report import Report


def draw(report: Report) -> Chart | None:
    """Of a search with several objectives."""
    rows = report.records("hypervolume")
    if len(rows) < 2:
        return None
    encoding = {
        "x": quantitative("trial", "trial", axis={"tickMinStep": 1, "format": "d"}),
        "y": quantitative("hypervolume", "hypervolume", scale={"zero": True}),
        "tooltip": tooltip(("trial", "trial"), ("hypervolume", "hypervolume")),
    }
    mark = {"type": "area", "interpolate": "step-after", "line": True, "opacity": 0.25}
    corner = ", ".join(f"{metric} {number(value)}" for metric, value in report.details.get("reference", {}).items())
    final = rows[-1]["hypervolume"]
    near = next(row["trial"] for row in rows if row["hypervolume"] >= 0.95 * final)
    return Chart(
        kind="hypervolume",
        title="Hypervolume of the front",
        alt=f"It ends at {number(final)}; 95% of that was reached by trial {near}.",
        panels=(Panel({"data": {"name": "hypervolume"}, "mark": mark, "encoding": encoding}, 200),),
        data={"hypervolume": columns_of(rows, ["trial", "hypervolume"])},
        note=f"The volume between the front and the corner {corner}." if corner else "",
    )
