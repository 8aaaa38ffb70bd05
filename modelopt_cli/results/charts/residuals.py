"""By how much a regression misses: residuals against predictions, and how they are spread."""

from __future__ import annotations

from statistics import fmean, pstdev

from modelopt_cli.core.readable import number
from modelopt_cli.results.charts._predictions import predictions_of
from modelopt_cli.results.charts.chart import INK, Chart, Columns, Panel, columns_of, layer, quantitative, tooltip
from modelopt_cli.results.report import Report


def draw(report: Report) -> Chart | None:
    """Of a regression that was judged: two panels for each target."""
    split, targets = predictions_of(report)
    panels, texts = [], []
    data: dict[str, Columns] = {}
    for index, (target, rows) in enumerate(targets.items()):
        name = f"residuals_{index}"
        data[name] = columns_of(rows)
        zero = layer({"type": "rule", "color": INK, "opacity": 0.5, "strokeDash": [4, 4]}, {"y": {"datum": 0}})
        points = layer(
            {"type": "point", "filled": True, "size": 24, "opacity": 0.5},
            {
                "x": quantitative("predicted", "predicted value"),
                "y": quantitative("residual", "predicted - true"),
                "tooltip": tooltip(("true", "true"), ("predicted", "predicted"), ("residual", "residual")),
            },
        )
        spread = {
            "x": {"field": "residual", "bin": {"maxbins": 30}, "type": "quantitative", "title": "predicted - true"},
            "y": {"aggregate": "count", "type": "quantitative", "title": "samples"},
        }
        before = f"{target}: " if target else ""
        panels.append(Panel({"data": {"name": name}, "layer": [zero, points]}, 240, f"{before}by prediction"))
        panels.append(Panel({"data": {"name": name}, "mark": "bar", "encoding": spread}, 240, f"{before}how often"))
        residuals = [row["residual"] for row in rows]
        texts.append(f"{before}mean {number(fmean(residuals))}, deviation {number(pstdev(residuals))}")
    if not panels:
        return None
    return Chart(
        kind="residuals",
        title=f"Residuals ({split} split)",
        alt=f"What the predictions are too high by: {'; '.join(texts)}.",
        panels=tuple(panels),
        data=data,
        note="A pattern against the prediction means that something is left to learn; a mean far from 0 is a bias.",
        least=330,
    )
