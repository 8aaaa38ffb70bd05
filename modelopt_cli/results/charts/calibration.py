"""Whether a classifier is as sure as it is right: its confidence against the share of right predictions, bin by bin."""

from __future__ import annotations

from modelopt_cli.core.readable import number
from modelopt_cli.results.charts.chart import INK, Chart, Panel, columns_of, layer, quantitative, tooltip
from modelopt_cli.results.report import Report

_SHARE = {"domain": [0, 1], "nice": False}


def draw(report: Report) -> Chart | None:
    """Of a classifier that gives probabilities: the reliability diagram (Guo et al. 2017, figure 1), counts below
    it.
    """
    table = report.records("calibration")
    splits = [row["split"] for row in table]
    split = "test" if "test" in splits else splits[0] if splits else None
    rows = [row for row in table if row["split"] == split and row["count"]]
    if split is None or not rows:
        return None
    total = sum(row["count"] for row in rows)
    error = sum(row["count"] * abs(row["accuracy"] - row["confidence"]) for row in rows) / total
    mean = sum(row["count"] * (row["confidence"] - row["accuracy"]) for row in rows) / total
    shown = [{**{key: row[key] for key in ("low", "high", "count", "confidence", "accuracy")}} for row in rows]
    labels = tooltip(
        ("low", "from"), ("high", "to"), ("count", "samples"), ("confidence", "confidence"), ("accuracy", "right")
    )
    x = quantitative("confidence", "confidence", scale=_SHARE, axis={"format": "%"})
    y = quantitative("accuracy", "share that is right", scale=_SHARE, axis={"format": "%"})
    diagonal = layer(
        {"type": "line", "color": INK, "opacity": 0.5, "strokeDash": [4, 4], "strokeWidth": 1},
        {"x": {**x, "field": "x"}, "y": {**y, "field": "x"}},
        data={"values": [{"x": 0}, {"x": 1}]},
    )
    gaps = layer({"type": "rule", "color": INK, "opacity": 0.35}, {"x": x, "y": y, "y2": {"field": "confidence"}})
    size = {"field": "count", "type": "quantitative", "legend": None, "scale": {"range": [30, 400]}}
    points = layer(
        {"type": "point", "filled": True, "opacity": 0.85}, {"x": x, "y": y, "size": size, "tooltip": labels}
    )
    bins = {
        "x": {"field": "low", "type": "quantitative", "scale": _SHARE, "title": "confidence", "axis": {"format": "%"}},
        "x2": {"field": "high"},
        "y": {"field": "count", "type": "quantitative", "title": "samples", "scale": {"zero": True}},
        "y2": {"datum": 0},
        "tooltip": labels,
    }
    sure = "surer than it is right" if mean > 0 else "less sure than it is right"
    return Chart(
        kind="calibration",
        title=f"Calibration ({split} split)",
        alt=f"Expected calibration error {number(error)} over {total:,} samples; on the whole the model is {sure}.",
        panels=(
            Panel(
                {"data": {"name": "calibration"}, "layer": [diagonal, gaps, points]}, 280, "Confidence against truth"
            ),
            Panel(
                {"data": {"name": "calibration"}, "mark": {"type": "bar", "orient": "vertical"}, "encoding": bins},
                280,
                "How often it is how sure",
            ),
        ),
        data={"calibration": columns_of(shown)},
        note="A calibrated model lies on the dashed line; below it, it is too sure. A larger point has more samples.",
        least=320,
    )
