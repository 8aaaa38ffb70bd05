"""How many samples of each class lie in each split."""

from __future__ import annotations

from modelopt_cli.results.charts.chart import Chart, Panel, columns_of, tooltip
from modelopt_cli.results.report import Report

_MOST = 40


def draw(report: Report) -> Chart | None:
    """Of a run on labelled data with up to 40 classes."""
    table = report.records("classes")
    names = list(dict.fromkeys(str(row["class"]) for row in table))
    if not table or len(names) > _MOST:
        return None
    rows = [{"split": row["split"], "class": str(row["class"]), "samples": row["samples"]} for row in table]
    splits = list(dict.fromkeys(row["split"] for row in rows))
    totals = {name: sum(row["samples"] for row in rows if row["class"] == name) for name in names}
    rare, often = min(totals, key=lambda name: totals[name]), max(totals, key=lambda name: totals[name])
    encoding = {
        "y": {"field": "class", "type": "nominal", "title": None, "sort": names},
        "x": {"field": "samples", "type": "quantitative", "title": "samples"},
        "color": {"field": "split", "type": "nominal", "title": None, "scale": {"domain": splits}},
        "order": {"field": "order", "type": "quantitative"},
        "tooltip": tooltip(("class", "class"), ("split", "split"), ("samples", "samples")),
    }
    ordered = [{**row, "order": splits.index(row["split"])} for row in rows]
    return Chart(
        kind="classes",
        title="Classes and splits",
        alt=f"{len(names)} classes; {often} has most samples ({totals[often]:,}), {rare} fewest ({totals[rare]:,}).",
        panels=(Panel({"data": {"name": "classes"}, "mark": "bar", "encoding": encoding}, 50 + 20 * len(names)),),
        data={"classes": columns_of(ordered)},
    )
