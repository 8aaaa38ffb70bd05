"""What a regression predicts against what is true."""

from __future__ import annotations

from statistics import fmean

from modelopt_cli.core.readable import number
from modelopt_cli.results.charts._predictions import predictions_of
from modelopt_cli.results.charts.chart import INK, Chart, Columns, Panel, columns_of, layer, quantitative, tooltip
from modelopt_cli.results.report import Report


def draw(report: Report) -> Chart | None:
    """Of a regression that was judged: a panel for each target."""
    split, targets = predictions_of(report)
    panels, texts = [], []
    data: dict[str, Columns] = {}
    for index, (target, rows) in enumerate(targets.items()):
        name = f"predicted_{index}"
        data[name] = columns_of(rows)
        values = [row[key] for row in rows for key in ("true", "predicted")]
        domain = {"domain": [min(values), max(values)], "nice": True, "zero": False}
        x = quantitative("true", "true value", scale=domain)
        y = quantitative("predicted", "predicted value", scale=domain)
        ends = {"values": [{"x": min(values)}, {"x": max(values)}]}
        line = layer(
            {"type": "line", "color": INK, "opacity": 0.5, "strokeDash": [4, 4], "strokeWidth": 1},
            {"x": {**x, "field": "x"}, "y": {**y, "field": "x"}},
            data=ends,
        )
        labels = tooltip(("true", "true"), ("predicted", "predicted"), ("residual", "residual"))
        points = layer(
            {"type": "point", "filled": True, "size": 26, "opacity": 0.55}, {"x": x, "y": y, "tooltip": labels}
        )
        panels.append(Panel({"data": {"name": name}, "layer": [line, points]}, 320, target))
        error = fmean(abs(row["residual"]) for row in rows)
        texts.append(f"{target or 'predictions'} {'miss' if not target else 'misses'} by {number(error)} on average")
    if not panels:
        return None
    count = len(next(iter(targets.values())))
    return Chart(
        kind="predicted",
        title=f"Predicted against true ({split} split)",
        alt=f"{count:,} samples: {'; '.join(texts)}.",
        panels=tuple(panels),
        data=data,
        note="Right predictions lie on the dashed line.",
        least=330,
    )
