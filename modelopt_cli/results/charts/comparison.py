"""Runs against the first of them: by how much each differs in a metric, and the interval that chance leaves open."""

from __future__ import annotations

from typing import Any

from modelopt_cli.core.readable import number
from modelopt_cli.results.charts.chart import INK, Chart, Columns, Panel, columns_of, layer, quantitative, tooltip
from modelopt_cli.results.report import Report

_MOST = 4
_COLOURS = {"better": "#2f7ed8", "worse": "#d6336c"}


def draw(report: Report) -> Chart | None:
    """Of a comparison: a panel for each metric, those that the comparison is about first."""
    table = [row for row in report.records("differences") if row["difference"] is not None]
    if not table:
        return None
    main = report.details.get("main", [])
    metrics = list(dict.fromkeys([*main, *(row["metric"] for row in table if row["metric"].startswith("test."))]))
    metrics = [name for name in metrics if any(row["metric"] == name for row in table)] or [table[0]["metric"]]
    names = report.details.get("runs", {})
    panels = []
    data: dict[str, Columns] = {}
    better = {row["metric"]: row.get("better") for row in report.records("metrics")}
    verdicts = list(dict.fromkeys(str(row["verdict"]) for row in table))
    colours = [_COLOURS.get(verdict, "#8a8f98") for verdict in verdicts]
    for index, metric in enumerate(metrics[:_MOST]):
        rows: list[dict[str, Any]] = [
            {
                "run": f"{row['run']} ({names.get(row['run'], '')})",
                "difference": row["difference"],
                "low": row["low"] if row["low"] is not None else row["difference"],
                "high": row["high"] if row["high"] is not None else row["difference"],
                "verdict": str(row["verdict"]),
            }
            for row in table
            if row["metric"] == metric
        ]
        name = f"comparison_{index}"
        data[name] = columns_of(rows)
        y = {"field": "run", "type": "nominal", "title": None, "axis": {"grid": True}}
        x = quantitative(
            "difference", f"{metric} minus that of A{_way(better.get(metric))}", scale={"zero": True, "padding": 14}
        )
        colour = {"field": "verdict", "type": "nominal", "title": None, "scale": {"domain": verdicts, "range": colours}}
        if index:
            colour["legend"] = None
        labels = tooltip(("run", "run"), ("difference", "difference"), ("low", "from"), ("high", "to"), ("verdict", ""))
        ends = {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}}
        layers = [
            layer({"type": "rule", "color": INK, "opacity": 0.6, "strokeDash": [4, 4]}, {"x": {"datum": 0}}),
            layer({"type": "rule", "strokeWidth": 2}, {**ends, "color": colour, "tooltip": labels}),
            layer({"type": "point", "filled": True, "size": 110}, {"y": y, "x": x, "color": colour, "tooltip": labels}),
        ]
        panels.append(Panel({"data": {"name": name}, "layer": layers}, 70 + 30 * len(rows), metric))
    first = [row for row in table if row["metric"] == metrics[0]]
    readings = ", ".join(f"{row['run']} by {number(row['difference'])} ({row['verdict']})" for row in first)
    return Chart(
        kind="comparison",
        title="Differences from the first run",
        alt=f"{metrics[0]} differs from that of A: {readings}.",
        panels=tuple(panels),
        data=data,
        note="The line is the interval that chance leaves open; where it crosses 0, the difference may be chance.",
        least=340,
    )


def _way(better: str | None) -> str:
    return "" if better is None else f" ({better} is better)"
