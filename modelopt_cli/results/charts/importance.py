"""Which settings made the difference: the share of the variance of the objective that each explains."""

from __future__ import annotations

from modelopt_cli.core.readable import short
from modelopt_cli.results.charts.chart import INK, Chart, Columns, Panel, columns_of, layer, tooltip
from modelopt_cli.results.report import Report

_MOST = 20


def draw(report: Report) -> Chart | None:
    """Of a search with enough trials: a panel for each objective."""
    table = [row for row in report.records("importance") if row["importance"] is not None]
    panels, texts = [], []
    data: dict[str, Columns] = {}
    for index, metric in enumerate(dict.fromkeys(row["metric"] for row in table)):
        of_metric = [row for row in table if row["metric"] == metric]
        paths = [row["path"] for row in of_metric]
        rows = [
            {
                "setting": short(row["path"], paths) + (f" ({row['when']})" if row["when"] else ""),
                "path": row["path"],
                "share": row["importance"],
                "low": max(0.0, row["importance"] - row["deviation"]),
                "high": min(1.0, row["importance"] + row["deviation"]),
                "deviation": row["deviation"],
                "text": f"{row['importance']:.0%} ± {100 * row['deviation']:.0f}",
            }
            for row in of_metric[:_MOST]
        ]
        data[f"importance_{index}"] = columns_of(rows)
        names = [row["setting"] for row in rows]
        y = {"field": "setting", "type": "nominal", "title": None, "sort": names}
        axis = {"format": "%", "tickCount": 5}
        x = {"field": "share", "type": "quantitative", "title": f"share of the variance of {metric}", "axis": axis}
        labels = tooltip(("path", "setting"), ("share", "share"), ("deviation", "deviation"))
        layers = [
            layer({"type": "bar", "cornerRadiusEnd": 3}, {"y": y, "x": x, "tooltip": labels}),
            layer(
                {"type": "rule", "color": INK, "strokeWidth": 1.5},
                {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
            ),
        ]
        text = {"type": "text", "align": "left", "dx": 6, "fontSize": 11, "color": INK}
        layers.append(layer(text, {"y": y, "x": {**x, "field": "high"}, "text": {"field": "text"}}))
        spec = {"data": {"name": f"importance_{index}"}, "layer": layers}
        panels.append(Panel(spec, 50 + 26 * len(rows), metric if index else ""))
        top = ", ".join(f"{row['setting']} {row['share']:.0%} ± {100 * row['deviation']:.0f}" for row in rows[:3])
        texts.append(f"{metric}: {top}")
    if not panels:
        return None
    if len(panels) > 1:
        panels[0] = Panel(panels[0].spec, panels[0].height, texts[0].partition(":")[0])
    return Chart(
        kind="importance",
        title="Importance of settings",
        alt=f"Share of the variance explained, with its deviation. {'; '.join(texts)}.",
        panels=tuple(panels),
        data=data,
        note="Functional analysis of variance over a random forest; the thin line is the deviation between its trees. "
        "What is missing to 100% is how settings work together.",
        least=400,
    )
