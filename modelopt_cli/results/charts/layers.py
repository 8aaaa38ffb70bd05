"""Where weights or units were taken: the size of each layer before and after, and the share that went."""

from __future__ import annotations

from typing import Any

from modelopt_cli.core.readable import count
from modelopt_cli.results.charts.chart import INK, Chart, Panel, columns_of, layer, tooltip
from modelopt_cli.results.report import Report

_MOST = 60


def draw(report: Report) -> Chart | None:
    """Of a pruning: two panels, shares and sizes, with the tensors in the order of the model."""
    table = report.records("layers")
    rows = [row for row in (_row(row) for row in table if row.get("weights")) if row is not None]
    if not rows:
        return None
    left = len(rows) - _MOST
    if left > 0:  # the largest, in the order of the model
        bound = sorted((row["before"] for row in rows), reverse=True)[_MOST - 1]
        rows = [row for row in rows if row["before"] >= bound][:_MOST]
    names = [row["tensor"] for row in rows]
    y = {"field": "tensor", "type": "nominal", "title": None, "sort": names}
    share = {
        "field": "share",
        "type": "quantitative",
        "title": "share taken",
        "scale": {"domain": [0, 1]},
        "axis": {"format": "%"},
    }
    labels = tooltip(
        ("tensor", "tensor"),
        ("shapes", "shape"),
        ("before", "weights before"),
        ("rest", "weights after"),
        ("share", "share taken"),
        ("spared", "left alone because"),
    )
    shares = [
        layer({"type": "bar", "cornerRadiusEnd": 3}, {"y": y, "x": share, "tooltip": labels}),
        layer(
            {"type": "text", "align": "left", "dx": 5, "fontSize": 10, "color": INK, "opacity": 0.75},
            {"y": y, "x": share, "text": {"field": "spared"}},
            transform=[{"filter": "isValid(datum.spared)"}],
        ),
    ]
    x = {"field": "before", "type": "quantitative", "title": "weights (logarithmic)", "scale": {"type": "log"}}
    which = {
        "type": "nominal",
        "title": None,
        "scale": {"domain": ["before", "after"], "range": ["#b9c0cc", "#2f7ed8"]},
    }
    before, after = {**which, "datum": "before"}, {**which, "datum": "after"}
    sizes = [
        layer({"type": "rule", "strokeWidth": 6, "opacity": 0.25}, {"y": y, "x": x, "x2": {"field": "after"}}),
        layer({"type": "point", "filled": True, "size": 60}, {"y": y, "x": x, "color": before, "tooltip": labels}),
        layer(
            {"type": "point", "filled": True, "size": 60},
            {"y": y, "x": {**x, "field": "after"}, "color": after, "tooltip": labels},
        ),
    ]
    height = 40 + 18 * len(rows)
    total, rest = sum(row["before"] for row in rows), sum(row["rest"] for row in rows)
    most = max(rows, key=lambda row: row["share"])
    note = "Zeros count as taken."
    return Chart(
        kind="layers",
        title="Layer by layer",
        alt=f"{count(total)} weights before, {count(rest)} after; {most['tensor']} gave most: {most['share']:.0%}.",
        panels=(
            Panel({"data": {"name": "layers"}, "layer": shares}, height, "Share taken"),
            Panel({"data": {"name": "layers"}, "layer": sizes}, height, "Weights before and after"),
        ),
        data={"layers": columns_of(rows)},
        note=f"{note} {left} smaller tensors are in layers.csv." if left > 0 else note,
        least=360,
    )


def _row(row: dict[str, Any]) -> dict[str, Any] | None:
    """A tensor of either kind of table: weights set to zero, or units taken out."""
    if "zeroed" in row:
        before = row["weights"] - (row.get("zero before") or 0)
        after = row["weights"] - (row.get("zero before") or 0) - (row["zeroed"] or 0)
        share, shapes = row.get("sparsity"), row.get("shape")
        share = 1 - after / row["weights"] if share is None else share
    else:
        after, share = row["weights"], row.get("share removed") or 0.0
        before = round(after / (1 - share)) if share < 1 else after
        shapes = f"{row.get('shape before')} to {row.get('shape')}"
    if not before:
        return None
    spared = row.get("spared")
    return {
        "tensor": row["tensor"],
        "before": before,
        "after": max(after, 1),
        "rest": after,
        "share": share,
        "shapes": shapes,
        "spared": spared or None,
    }
